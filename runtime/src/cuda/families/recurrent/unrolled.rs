//! Recurrences written out step by step as products, maps and nests, for what the kernels of cells do not compute: weights
//! of 8 bits ([`quantised`](super::quantised)) and f64 ([`wide`](super::wide)).
//!
//! States are buffers of their own, `[batch, hidden]` for each step and direction, which are joined in the end. A row that
//! has a length of its own keeps its states behind its end and shows zeros there. It is the same step that all rows take: a
//! reversed direction of such rows reads the input's part of the gates turned around up to each row's end, and what it shows
//! is turned back.

use super::super::composition::{Composition, Place};
use super::super::coordinates;
use super::super::copy::{self, Columns};
use super::super::located::{Located, bytes};
use super::super::looped::flat;
use super::super::map;
use super::{LENGTHS, P, Sizes};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::TensorFact;
use crate::graph::fact::{Fact, Facts};
use crate::loops::Affine;
use crate::loops::program::{Builder, Kind, Reg};
use crate::ops::recurrence::{Activation, Cell, Recurrence};
use crate::ops::recurrence_nest::activated;

/// A recurrence in the making.
pub(super) struct Steps<'a> {
    pub(super) site: &'a GpuSite<'a>,
    pub(super) of: &'a Recurrence,
    pub(super) sizes: Sizes,
    /// Type of the states and of the gates.
    dtype: DType,
    pub(super) whole: Composition,
    /// Steps of each row as 64-bit integers, where rows have lengths of their own.
    pub(super) lengths: Option<Place>,
}

/// A step of one direction: its number, and where its part of the input is.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub(super) direction: usize,
    pub(super) step: usize,
    pub(super) at: usize,
    pub(super) name: String,
}

pub(super) fn affine(first: usize, steps: &[(usize, usize)]) -> Result<Affine, GpuReject> {
    flat(first, steps).ok_or_else(|| GpuReject::Form("a recurrence of so many elements".into()))
}

impl<'a> Steps<'a> {
    pub(super) fn new(
        of: &'a Recurrence,
        site: &'a GpuSite<'a>,
        sizes: Sizes,
        dtype: DType,
    ) -> Result<Self, GpuReject> {
        let mut steps = Self { site, of, sizes, dtype, whole: Composition::new(""), lengths: None };
        if site.inputs.has(LENGTHS) {
            let to = steps.between(DType::I64, sizes.batch)?;
            let mut map = Located::over(site, &[sizes.batch]);
            let given = map.read(Place::Input(LENGTHS), site.dtype(LENGTHS)?, vec![1], 0)?;
            let b = &mut map.builder;
            let given = b.convert(given, Kind::I64);
            let (none, all) = (b.integer(Kind::I64, 0), b.integer(Kind::I64, sizes.time as i128));
            let given = b.max(given, none);
            let given = b.min(given, all);
            steps.with(|whole| map.onto(whole).store("lengths", given, DType::I64, to))?;
            steps.lengths = Some(to);
        }
        Ok(steps)
    }

    /// Elements of a state.
    pub(super) fn state(&self) -> usize {
        self.sizes.batch * self.sizes.hidden
    }

    pub(super) fn between(&mut self, dtype: DType, count: usize) -> Result<Place, GpuReject> {
        self.whole.between(bytes(dtype, &[count])?)
    }

    /// Room for a state.
    pub(super) fn room(&mut self) -> Result<Place, GpuReject> {
        self.between(self.dtype, self.state())
    }

    /// What `map` adds to the composition.
    pub(super) fn with(
        &mut self,
        map: impl FnOnce(Composition) -> Result<Composition, GpuReject>,
    ) -> Result<(), GpuReject> {
        self.whole = map(std::mem::replace(&mut self.whole, Composition::new("")))?;
        Ok(())
    }

    /// A map over a state, alone; it is brought behind the others when it is stored.
    pub(super) fn over_state(&self) -> Located<'a> {
        Located::over(self.site, &[self.sizes.batch, self.sizes.hidden])
    }

    /// An element of a state.
    pub(super) fn read(&self, map: &mut Located<'_>, state: Place) -> Result<Reg, GpuReject> {
        map.read(state, self.dtype, vec![self.sizes.hidden as u64, 1], 0)
    }

    /// Stores `y` as the state `name`.
    pub(super) fn store(&mut self, name: &str, map: Located<'_>, y: Reg) -> Result<Place, GpuReject> {
        let (to, dtype) = (self.room()?, self.dtype);
        self.with(|whole| map.onto(whole).store(name, y, dtype, to))?;
        Ok(to)
    }

    /// State `input` of direction `d` ahead of the first step, or zeros.
    fn initial(&mut self, d: usize, input: usize) -> Result<Place, GpuReject> {
        let (Sizes { batch, hidden, directions, .. }, site) = (self.sizes, self.site);
        let name = format!("initial {d} {input}");
        if !site.inputs.has(input) {
            let to = self.room()?;
            let zeros = map::zeros(site, self.dtype, &[batch, hidden])?;
            self.whole.add(&name, zeros, Vec::new(), vec![to])?;
            return Ok(to);
        }
        let (row, first) = if self.of.batch_first {
            (directions * hidden, d * hidden)
        } else {
            (hidden, d * batch * hidden)
        };
        let mut map = self.over_state();
        let x = map.read(Place::Input(input), self.dtype, vec![row as u64, 1], first as u64)?;
        self.store(&name, map, x)
    }

    /// `activation` of `x`, which is clipped.
    pub(super) fn clipped(&self, p: &mut Builder, activation: Activation, x: Reg) -> Reg {
        let x = self.of.clip.map_or(x, |clip| {
            let (low, high) = (p.constant_as(x, -f64::from(clip)), p.constant_as(x, clip.into()));
            let below = p.min(x, high);
            p.max(below, low)
        });
        activated(p, activation, x)
    }

    /// Gate `gate` of the sums `[batch, gates · hidden]` from element `first` on.
    pub(super) fn sum(
        &self,
        map: &mut Located<'_>,
        (sums, first): (Place, usize),
        gate: usize,
    ) -> Result<Reg, GpuReject> {
        let strides = vec![self.sizes.rows() as u64, 1];
        map.read(sums, self.dtype, strides, (first + gate * self.sizes.hidden) as u64)
    }

    /// Gate `gate` of an LSTM, which looks at `cell` through peephole `which`, where there is one.
    fn gate(
        &self,
        map: &mut Located<'_>,
        (gates, d): (Place, usize),
        (gate, function): (usize, usize),
        peephole: Option<(usize, Reg)>,
    ) -> Result<Reg, GpuReject> {
        let mut sum = self.sum(map, (gates, 0), gate)?;
        if let Some((which, cell)) = peephole.filter(|_| self.site.inputs.has(P)) {
            let first = (3 * d + which) * self.sizes.hidden;
            let weight = map.read(Place::Input(P), self.dtype, vec![0, 1], first as u64)?;
            let seen = map.builder.mul(weight, cell);
            sum = map.builder.add(sum, seen);
        }
        Ok(self.clipped(&mut map.builder, self.of.directions[d].activations[function], sum))
    }

    /// The states of an LSTM behind a step, by the sums of its gates i, o, f and c.
    pub(super) fn lstm(&mut self, now: &Moment, gates: Place, c: Place) -> Result<[Place; 2], GpuReject> {
        let d = now.direction;
        let mut map = self.over_state();
        let old = self.read(&mut map, c)?;
        let input = self.gate(&mut map, (gates, d), (0, 0), Some((0, old)))?;
        let forget = if self.of.cell == (Cell::Lstm { input_forget: true }) {
            let one = map.builder.constant_as(input, 1.0);
            map.builder.sub(one, input)
        } else {
            self.gate(&mut map, (gates, d), (2, 0), Some((2, old)))?
        };
        let candidate = self.gate(&mut map, (gates, d), (3, 1), None)?;
        let (kept, added) = (map.builder.mul(forget, old), map.builder.mul(input, candidate));
        let cell = map.builder.add(kept, added);
        let c = self.store(&format!("{} cell", now.name), map, cell)?;
        let mut map = self.over_state();
        let cell = self.read(&mut map, c)?;
        let output = self.gate(&mut map, (gates, d), (1, 0), Some((1, cell)))?;
        let shown = activated(&mut map.builder, self.of.directions[d].activations[2], cell);
        let state = map.builder.mul(output, shown);
        Ok([self.store(&format!("{} state", now.name), map, state)?, c])
    }

    /// A state of rows that are longer than `than` steps; of others `other`, or zeros.
    pub(super) fn of_longer(
        &mut self,
        name: &str,
        (state, other): (Place, Option<Place>),
        than: usize,
    ) -> Result<Place, GpuReject> {
        let Some(lengths) = self.lengths else { return Ok(state) };
        let mut map = self.over_state();
        let new = self.read(&mut map, state)?;
        let old = match other {
            Some(other) => self.read(&mut map, other)?,
            None => map.builder.constant_as(new, 0.0),
        };
        let length = map.read(lengths, DType::I64, vec![1, 0], 0)?;
        let than = map.builder.integer(Kind::I64, than as i128);
        let longer = map.builder.lt(than, length);
        let kept = map.builder.select(longer, new, old);
        self.store(name, map, kept)
    }

    /// The rows of `[time, batch, width]` at `x`, each turned around up to its end.
    fn turned(&mut self, name: &str, x: Place, width: usize) -> Result<Place, GpuReject> {
        let (Some(lengths), Sizes { time, batch, .. }) = (self.lengths, self.sizes) else { return Ok(x) };
        let rows = Fact::from(TensorFact::known(self.dtype, &[time, batch, width]));
        let steps = Fact::from(TensorFact::known(DType::I64, &[batch]));
        let made = [rows.clone()];
        let inner = GpuSite { inputs: Facts(&[Some(&rows), Some(&steps)]), outputs: &made, ..*self.site };
        let kernel = coordinates::reversed(&inner, 0)?;
        let to = self.between(self.dtype, time * batch * width)?;
        self.whole.add(name, kernel, vec![x, lengths], vec![to])?;
        Ok(to)
    }

    /// All steps of all directions: `of_input` makes a direction's part of the gates that the input has, as `[time, batch,
    /// gates · hidden]`, and `step` a step's new states of it and the old ones. `initial` are the inputs that states begin as.
    pub(super) fn all(
        mut self,
        initial: &[usize],
        of_input: impl Fn(&mut Self, usize) -> Result<Place, GpuReject>,
        step: impl Fn(&mut Self, &Moment, Place, [Place; 2]) -> Result<[Place; 2], GpuReject>,
    ) -> Result<GpuKernel, GpuReject> {
        let (time, row) = (self.sizes.time, self.state());
        // What is shown, one direction behind the other: places and their elements.
        let (mut shown, mut last) = (Vec::new(), [Vec::new(), Vec::new()]);
        for d in 0..self.sizes.directions {
            let reverse = self.of.directions[d].reverse;
            let ends = self.lengths.is_some();
            let mut sums = of_input(&mut self, d)?;
            if reverse && ends {
                sums = self.turned(&format!("turned {d}"), sums, self.sizes.rows())?;
            }
            let mut states = [Place::Nowhere; 2];
            for (state, &input) in states.iter_mut().zip(initial) {
                *state = self.initial(d, input)?;
            }
            let mut of_direction = vec![(Place::Nowhere, row); time];
            for number in 0..time {
                let at = if reverse && !ends { time - 1 - number } else { number };
                let now = Moment { direction: d, step: number, at, name: format!("{d} {number}") };
                let made = step(&mut self, &now, sums, states)?;
                of_direction[at].0 =
                    self.of_longer(&format!("{} shown", now.name), (made[0], None), number)?;
                for (which, state) in states.iter_mut().enumerate().take(initial.len()) {
                    let name = format!("{} kept {which}", now.name);
                    *state = self.of_longer(&name, (made[which], Some(*state)), number)?;
                }
            }
            if reverse && ends {
                let whole = self.between(self.dtype, time * row)?;
                self.join(&format!("steps {d}"), &of_direction, whole)?;
                of_direction =
                    vec![(self.turned(&format!("shown {d}"), whole, self.sizes.hidden)?, time * row)];
            }
            shown.extend(of_direction);
            for (all, state) in last.iter_mut().zip(states) {
                all.push((state, row));
            }
        }
        self.finish(&shown, &last)
    }

    /// Joins buffers, each of so many elements, one behind the other at `to`.
    fn join(&mut self, name: &str, parts: &[(Place, usize)], to: Place) -> Result<(), GpuReject> {
        let all = parts.iter().map(|(_, count)| count).sum();
        let mut first = 0;
        let mut columns = Vec::with_capacity(parts.len());
        for (input, &(_, count)) in parts.iter().enumerate() {
            columns.push(Columns { input, from: (0, count), to: (first, all), count });
            first += count;
        }
        let kernel = copy::columns(self.site, self.dtype, 1, &columns)?;
        self.whole.add(name, kernel, parts.iter().map(|(place, _)| *place).collect(), vec![to])
    }

    /// Joins buffers as output `output`, brought into the order that `strides` tell of `extents` where that is another one.
    fn joined(
        &mut self,
        output: usize,
        parts: &[(Place, usize)],
        turned: Option<([usize; 4], [usize; 4])>,
    ) -> Result<(), GpuReject> {
        let all = parts.iter().map(|(_, count)| count).sum();
        let to = if turned.is_some() { self.between(self.dtype, all)? } else { Place::Output(output) };
        self.join(&format!("output {output}"), parts, to)?;
        if let Some((extents, strides)) = turned {
            let kernel = map::moved(self.site, [self.dtype; 2], &extents, &strides)?;
            self.whole.add(&format!("turned {output}"), kernel, vec![to], vec![Place::Output(output)])?;
        }
        Ok(())
    }

    /// The outputs of what all directions show and of their last states.
    fn finish(
        mut self,
        shown: &[(Place, usize)],
        last: &[Vec<(Place, usize)>],
    ) -> Result<GpuKernel, GpuReject> {
        let Sizes { time, batch, hidden, directions, .. } = self.sizes;
        let wanted = |output: usize| self.site.wanted.get(output).copied().unwrap_or(false);
        let wanted = [wanted(0), wanted(1), wanted(2)];
        let (row, of_batch) = (batch * hidden, self.of.batch_first);
        if wanted[0] {
            let turned = if of_batch {
                Some(([batch, time, directions, hidden], [hidden, row, time * row, 1]))
            } else {
                (directions > 1).then_some(([time, directions, batch, hidden], [row, time * row, hidden, 1]))
            };
            self.joined(0, shown, turned)?;
        }
        for (output, states) in (1..).zip(last) {
            if wanted[output] {
                let turned = ([1, batch, directions, hidden], [0, hidden, row, 1]);
                self.joined(output, states, of_batch.then_some(turned))?;
            }
        }
        Ok(self.whole.finish())
    }
}
