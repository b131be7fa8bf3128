//! LSTM with quantised weights, whose input and states are quantised while it runs: the products of the input for all steps
//! at once, then for each step the range of the state, its product, the gates, the cell and the new state, as maps and
//! nests. Sums are of integers, in f64; everything else is f32.
//!
//! States are buffers of their own, `[batch, hidden]` for each step and direction, which are joined in the end.

use super::super::composition::{Composition, Place};
use super::super::copy::{self, Columns};
use super::super::located::{Located, bytes};
use super::super::looped::{self, flat};
use super::super::{map, quantised};
use super::{B, C, H, LENGTHS, P, R, Sizes, W, X, without_steps};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::fact::{Fact, Facts};
use crate::graph::{Dim, TensorFact};
use crate::loops::program::{Builder, Kind, Reg};
use crate::loops::{Affine, Fold, Outside, Stages};
use crate::ops::recurrence::{Activation, Cell, Recurrence};
use crate::ops::recurrence_nest::activated;

/// Positions of scales; zero points follow.
const W_SCALE: usize = 8;
const R_SCALE: usize = 10;
/// Gates i, o, f and c.
const GATES: usize = 4;

/// A quantised matrix: numbers, scale, zero point.
#[derive(Clone, Copy)]
struct Bytes([Place; 3]);

/// A recurrence in the making.
struct Steps<'a> {
    site: &'a GpuSite<'a>,
    of: &'a Recurrence,
    sizes: Sizes,
    whole: Composition,
}

fn affine(first: usize, steps: &[(usize, usize)]) -> Result<Affine, GpuReject> {
    flat(first, steps).ok_or_else(|| GpuReject::Form("a recurrence of so many elements".into()))
}

/// The launches of the recurrence; its rows have no lengths of their own.
pub(crate) fn kernel(of: &Recurrence, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
    let (x, r) = (site.input_shape(X)?, site.input_shape(R)?);
    let ([a, b, input], [_, hidden, _]) = (&x[..], &r[..]) else { return Err(GpuReject::NoKernel) };
    let (time, batch) = if of.batch_first { (*b, *a) } else { (*a, *b) };
    let directions = of.directions.len();
    let sizes = Sizes { time, batch, input: *input, hidden: *hidden, directions, gates: GATES };
    if site.inputs.has(LENGTHS) {
        return Err(GpuReject::Form("a quantised recurrence whose rows have lengths of their own".into()));
    }
    if batch == 0 || *hidden == 0 {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    if time == 0 {
        return without_steps(site, DType::F32);
    }
    if *input == 0 {
        return Err(GpuReject::Form("a quantised recurrence of inputs without elements".into()));
    }
    let mut steps = Steps { site, of, sizes, whole: Composition::new("") };
    let x = steps.quantised("x", Place::Input(X), time * batch * input)?;
    let mut states = vec![[Place::Nowhere; 2]; time * directions];
    for d in 0..directions {
        let of_input = steps.of_input(d, x)?;
        let [mut h, mut c] = [steps.initial(d, H)?, steps.initial(d, C)?];
        for step in 0..time {
            let t = if of.directions[d].reverse { time - 1 - step } else { step };
            [h, c] = steps.step((d, t), of_input, [h, c])?;
            states[t * directions + d] = [h, c];
        }
    }
    steps.finish(&states)
}

impl Steps<'_> {
    /// Elements of a state.
    fn state(&self) -> usize {
        self.sizes.batch * self.sizes.hidden
    }

    fn between(&mut self, dtype: DType, count: usize) -> Result<Place, GpuReject> {
        self.whole.between(bytes(dtype, &[count])?)
    }

    /// What `map` adds to the composition.
    fn with(
        &mut self,
        map: impl FnOnce(Composition) -> Result<Composition, GpuReject>,
    ) -> Result<(), GpuReject> {
        self.whole = map(std::mem::replace(&mut self.whole, Composition::new("")))?;
        Ok(())
    }

    /// So many numbers as bytes, by the range of all of them.
    fn quantised(&mut self, name: &str, from: Place, count: usize) -> Result<Bytes, GpuReject> {
        let given = Fact::from(TensorFact::known(DType::F32, &[count]));
        let inner = GpuSite { inputs: Facts(&[Some(&given)]), ..*self.site };
        let kernel = quantised::dynamically(&inner)?;
        let numbers = self.between(DType::U8, count)?;
        let to = [numbers, self.between(DType::F32, 1)?, self.between(DType::U8, 1)?];
        self.whole.add(&format!("{name} in bytes"), kernel, vec![from], to.to_vec())?;
        Ok(Bytes(to))
    }

    /// `((x − z) · (w − v)) · (s · u) + …` of rows that lie at `at` (axes: rows' own, then columns, then what is folded) by
    /// direction `d` of weights `input`, as f32 `[rows, columns]`; behind it `more`, elements of an operand each.
    fn product(
        &mut self,
        (name, d, input): (&str, usize, usize),
        (x, count, at): (Bytes, usize, Affine),
        rows: &[usize],
        more: &[(Place, usize, Affine)],
    ) -> Result<Place, GpuReject> {
        let site = self.site;
        let scale = if input == W { W_SCALE } else { R_SCALE };
        let weights = site.input_shape(input)?;
        let (depth, columns) = (weights[1], weights[2]);
        let (column, fold) = (rows.len(), rows.len() + 1);
        let scales: usize = site.input_shape(scale)?.iter().product();
        // One for each direction, or one for each of its columns.
        let each = scales / self.sizes.directions;
        let parameter = affine(d * each, &[(column, usize::from(each > 1))])?;
        let weight = affine(d * depth * columns, &[(fold, columns), (column, 1)])?;
        let mut steps = vec![(column, 1)];
        let mut step = columns;
        for (axis, extent) in rows.iter().enumerate().rev() {
            steps.push((axis, step));
            step *= extent;
        }
        let (to, made) = (affine(0, &steps)?, step);
        let here = Affine::constant(0);
        let line = |dtype: DType, count: usize| TensorFact::known(dtype, &[count]);
        let Bytes([numbers, factor, zero]) = x;
        let of_weights = site.dtype(input)?;
        let mut places = vec![numbers, zero, Place::Input(input), Place::Input(scale + 1), factor];
        places.push(Place::Input(scale));
        let mut operands = vec![line(DType::U8, count), line(DType::U8, 1)];
        operands.extend([line(of_weights, weights.iter().product()), line(of_weights, scales)]);
        operands.extend([line(DType::F32, 1), line(DType::F32, scales)]);
        let mut added = Vec::new();
        for (place, count, at) in more {
            let operand = places.iter().position(|known| known == place).unwrap_or_else(|| {
                places.push(*place);
                operands.push(line(DType::F32, *count));
                places.len() - 1
            });
            added.push((operand, at.clone()));
        }
        let kernel = looped::nest(site, operands, line(DType::F32, made), |facts, outputs| {
            let extents = rows.iter().copied().chain([columns, depth]).map(Dim::Known);
            let mut nest = Stages::over(facts, outputs, extents.collect())?.computed_in(Kind::F64);
            let mut read = |operand: usize, at: &Affine| nest.read(operand, vec![at.clone()], Outside::Never);
            let factors = [read(0, &at)?, read(1, &here)?, read(2, &weight)?, read(3, &parameter)?];
            let mut sources = vec![read(4, &here)?, read(5, &parameter)?];
            for (operand, at) in &added {
                sources.push(read(*operand, at)?);
            }
            let sum = nest.fold(Fold::Sum, &[fold], &factors, |p, v| {
                let (x, w) = (p.sub(v[0], v[1]), p.sub(v[2], v[3]));
                p.mul(x, w)
            })?;
            sources.push(sum);
            nest.store(vec![to], &[], &sources, |p, v| {
                let factor = p.mul(v[0], v[1]);
                let factor = p.convert(factor, Kind::F32);
                let factor = p.convert(factor, Kind::F64);
                let product = p.mul(v[v.len() - 1], factor);
                let sum = v[2..v.len() - 1].iter().fold(product, |sum, &term| p.add(sum, term));
                p.convert(sum, Kind::F32)
            })
        })?;
        let to = self.between(DType::F32, made)?;
        self.whole.add(name, kernel, places, vec![to])?;
        Ok(to)
    }

    /// The input's part of direction `d`'s gates, with both biases, as `[time, batch, gates]`.
    fn of_input(&mut self, d: usize, x: Bytes) -> Result<Place, GpuReject> {
        let Sizes { time, batch, input, .. } = self.sizes;
        let rows = if self.of.batch_first { [input, time * input] } else { [batch * input, input] };
        let at = affine(0, &[(0, rows[0]), (1, rows[1]), (3, 1)])?;
        let mut more = Vec::new();
        if self.site.inputs.has(B) {
            let columns = self.sizes.rows();
            for part in [0, 1] {
                let at = affine((2 * d + part) * columns, &[(2, 1)])?;
                more.push((Place::Input(B), 2 * self.sizes.directions * columns, at));
            }
        }
        let name = format!("input {d}");
        self.product((&name, d, W), (x, time * batch * input, at), &[time, batch], &more)
    }

    /// State `input` of direction `d` ahead of the first step, or zeros.
    fn initial(&mut self, d: usize, input: usize) -> Result<Place, GpuReject> {
        let (Sizes { batch, hidden, directions, .. }, site) = (self.sizes, self.site);
        let to = self.between(DType::F32, batch * hidden)?;
        let name = format!("initial {d} {input}");
        if !site.inputs.has(input) {
            let zeros = map::zeros(site, DType::F32, &[batch, hidden])?;
            self.whole.add(&name, zeros, Vec::new(), vec![to])?;
            return Ok(to);
        }
        let (row, first) = if self.of.batch_first {
            (directions * hidden, d * hidden)
        } else {
            (hidden, d * batch * hidden)
        };
        self.with(|whole| {
            let mut map = Located::behind(whole, site, &[batch, hidden]);
            let x = map.read(Place::Input(input), DType::F32, vec![row as u64, 1], first as u64)?;
            map.store(&name, x, DType::F32, to)
        })?;
        Ok(to)
    }

    /// `activation` of `x`, which is clipped.
    fn clipped(&self, p: &mut Builder, activation: Activation, x: Reg) -> Reg {
        let x = self.of.clip.map_or(x, |clip| {
            let (low, high) = (p.constant_as(x, -f64::from(clip)), p.constant_as(x, clip.into()));
            let below = p.min(x, high);
            p.max(below, low)
        });
        activated(p, activation, x)
    }

    /// Gate `gate` of `gates`, which looks at `cell` through peephole `which`, where there is one.
    fn gate(
        &self,
        map: &mut Located<'_>,
        (gates, d): (Place, usize),
        (gate, function): (usize, usize),
        peephole: Option<(usize, Reg)>,
    ) -> Result<Reg, GpuReject> {
        let (hidden, columns) = (self.sizes.hidden, self.sizes.rows());
        let mut sum = map.read(gates, DType::F32, vec![columns as u64, 1], (gate * hidden) as u64)?;
        if let Some((which, cell)) = peephole.filter(|_| self.site.inputs.has(P)) {
            let first = (3 * d + which) * hidden;
            let weight = map.read(Place::Input(P), DType::F32, vec![0, 1], first as u64)?;
            let seen = map.builder.mul(weight, cell);
            sum = map.builder.add(sum, seen);
        }
        Ok(self.clipped(&mut map.builder, self.of.directions[d].activations[function], sum))
    }

    /// The states behind moment `t` of direction `d`.
    fn step(
        &mut self,
        (d, t): (usize, usize),
        of_input: Place,
        [h, c]: [Place; 2],
    ) -> Result<[Place; 2], GpuReject> {
        let (Sizes { time, batch, hidden, .. }, site) = (self.sizes, self.site);
        let (columns, name) = (self.sizes.rows(), format!("{d} {t}"));
        let coupled = self.of.cell == Cell::Lstm { input_forget: true };
        let quantised = self.quantised(&name, h, self.state())?;
        let at = affine(0, &[(0, hidden), (2, 1)])?;
        let of_moment = affine(t * batch * columns, &[(0, columns), (1, 1)])?;
        let more = [(of_input, time * batch * columns, of_moment)];
        let product = format!("{name} product");
        let gates = self.product((&product, d, R), (quantised, self.state(), at), &[batch], &more)?;
        let to = [self.between(DType::F32, self.state())?, self.between(DType::F32, self.state())?];
        let dense = || vec![hidden as u64, 1];
        let this = &*self;
        let mut map = Located::behind(Composition::new(""), site, &[batch, hidden]);
        let old = map.read(c, DType::F32, dense(), 0)?;
        let input = this.gate(&mut map, (gates, d), (0, 0), Some((0, old)))?;
        let forget = if coupled {
            let one = map.builder.constant_as(input, 1.0);
            map.builder.sub(one, input)
        } else {
            this.gate(&mut map, (gates, d), (2, 0), Some((2, old)))?
        };
        let candidate = this.gate(&mut map, (gates, d), (3, 1), None)?;
        let (kept, added) = (map.builder.mul(forget, old), map.builder.mul(input, candidate));
        let cell = map.builder.add(kept, added);
        self.with(|whole| map.onto(whole).store(&format!("{name} cell"), cell, DType::F32, to[1]))?;
        let this = &*self;
        let mut map = Located::behind(Composition::new(""), site, &[batch, hidden]);
        let cell = map.read(to[1], DType::F32, dense(), 0)?;
        let output = this.gate(&mut map, (gates, d), (1, 0), Some((1, cell)))?;
        let shown = activated(&mut map.builder, this.of.directions[d].activations[2], cell);
        let state = map.builder.mul(output, shown);
        self.with(|whole| map.onto(whole).store(&format!("{name} state"), state, DType::F32, to[0]))?;
        Ok(to)
    }

    /// Joins buffers of states one behind the other as output `output`, brought into the order that `strides` tell of
    /// `extents` where that is another one.
    fn joined(
        &mut self,
        output: usize,
        states: Vec<Place>,
        turned: Option<([usize; 4], [usize; 4])>,
    ) -> Result<(), GpuReject> {
        let (site, one, all) = (self.site, self.state(), self.state() * states.len());
        let parts: Vec<Columns> = (0..states.len())
            .map(|input| Columns { input, from: (0, one), to: (input * one, all), count: one })
            .collect();
        let to = if turned.is_some() { self.between(DType::F32, all)? } else { Place::Output(output) };
        let kernel = copy::columns(site, DType::F32, 1, &parts)?;
        self.whole.add(&format!("output {output}"), kernel, states, vec![to])?;
        if let Some((extents, strides)) = turned {
            let kernel = map::moved(site, [DType::F32; 2], &extents, &strides)?;
            self.whole.add(&format!("turned {output}"), kernel, vec![to], vec![Place::Output(output)])?;
        }
        Ok(())
    }

    /// The outputs of the states behind all moments, `[time, directions]` of them.
    fn finish(mut self, states: &[[Place; 2]]) -> Result<GpuKernel, GpuReject> {
        let Sizes { time, batch, hidden, directions, .. } = self.sizes;
        let wanted = |output: usize| self.site.wanted.get(output).copied().unwrap_or(false);
        let wanted = [wanted(0), wanted(1), wanted(2)];
        let (row, of_batch) = (batch * hidden, self.of.batch_first);
        if wanted[0] {
            let turned = ([batch, time, directions, hidden], [hidden, directions * row, row, 1]);
            let all = states.iter().map(|[h, _]| *h).collect();
            self.joined(0, all, of_batch.then_some(turned))?;
        }
        for (output, which) in [(1, 0), (2, 1)] {
            if !wanted[output] {
                continue;
            }
            let reverse = |d: usize| self.of.directions[d].reverse;
            let last = |d: usize| if reverse(d) { d } else { (time - 1) * directions + d };
            let all = (0..directions).map(|d| states[last(d)][which]).collect();
            let turned = ([1, batch, directions, hidden], [0, hidden, row, 1]);
            self.joined(output, all, of_batch.then_some(turned))?;
        }
        Ok(self.whole.finish())
    }
}
