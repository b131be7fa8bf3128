//! LSTM with quantised weights, whose input and states are quantised while it runs: the products of the input for all steps
//! at once, then for each step the range of the state, its product, the gates, the cell and the new state, as maps and
//! nests. Sums are of integers, in f64; everything else is f32.
//!
//! Where rows have lengths of their own, the range of the input is that of the steps up to the longest row's last, and that
//! of the states ahead of a step leaves out rows that ended more than one step before.

use super::super::composition::Place;
use super::super::located::Located;
use super::super::{looped, quantised};
use super::unrolled::{Moment, Steps, affine};
use super::{B, C, H, R, Sizes, W, X, without_steps};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::fact::{Fact, Facts};
use crate::graph::{Dim, TensorFact};
use crate::loops::program::Kind;
use crate::loops::{Affine, Fold, Outside, Stages};
use crate::ops::recurrence::Recurrence;

/// Positions of scales; zero points follow.
const W_SCALE: usize = 8;
const R_SCALE: usize = 10;
/// Gates i, o, f and c.
const GATES: usize = 4;

/// A quantised matrix: numbers, scale, zero point.
#[derive(Clone, Copy)]
struct Bytes([Place; 3]);

/// The launches of the recurrence.
pub(crate) fn kernel(of: &Recurrence, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
    let (x, r) = (site.input_shape(X)?, site.input_shape(R)?);
    let ([a, b, input], [_, hidden, _]) = (&x[..], &r[..]) else { return Err(GpuReject::NoKernel) };
    let (time, batch) = if of.batch_first { (*b, *a) } else { (*a, *b) };
    let directions = of.directions.len();
    let sizes = Sizes { time, batch, input: *input, hidden: *hidden, directions, gates: GATES };
    if batch == 0 || *hidden == 0 {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    if time == 0 {
        return without_steps(site, DType::F32);
    }
    if *input == 0 {
        return Err(GpuReject::Form("a quantised recurrence of inputs without elements".into()));
    }
    let mut steps = Steps::new(of, site, sizes, DType::F32)?;
    let counted = steps.counted()?;
    let x = steps.quantised("x", counted, time * batch * input)?;
    steps.all(
        &[H, C],
        |steps, d| steps.of_input(d, x),
        |steps, now, sums, [h, c]| {
            let gates = steps.gates(now, sums, h)?;
            steps.lstm(now, gates, c)
        },
    )
}

impl Steps<'_> {
    /// The input up to the longest row's last step, zeros behind it.
    fn counted(&mut self) -> Result<Place, GpuReject> {
        let Some(lengths) = self.lengths else { return Ok(Place::Input(X)) };
        let (Sizes { time, batch, input, .. }, site) = (self.sizes, self.site);
        let line = |count: usize| TensorFact::known(DType::I64, &[count]);
        let longest = self.between(DType::I64, 1)?;
        let kernel = looped::nest(site, vec![line(batch)], line(1), |facts, outputs| {
            let mut nest = Stages::over(facts, outputs, vec![Dim::Known(1), Dim::Known(batch)])?;
            let row = Affine::axis(1);
            let factors = [nest.read(0, vec![row], Outside::Never)?];
            let most = nest.fold(Fold::Max, &[1], &factors, |_, v| v[0])?;
            nest.store(vec![Affine::axis(0)], &[], &[most], |_, v| v[0])
        })?;
        self.whole.add("longest", kernel, vec![lengths], vec![longest])?;
        let to = self.between(DType::F32, time * batch * input)?;
        let (space, axis) =
            if self.of.batch_first { ([batch, time, input], 1) } else { ([time, batch, input], 0) };
        self.with(|whole| {
            let mut map = Located::behind(whole, site, &space);
            let strides = super::dense(&space).into_iter().map(|step| step as u64).collect();
            let x = map.read(Place::Input(X), DType::F32, strides, 0)?;
            let (here, end) = (map.coordinate(axis)?, map.read(longest, DType::I64, vec![0; 3], 0)?);
            let (inside, zero) = (map.builder.lt(here, end), map.builder.constant_as(x, 0.0));
            let x = map.builder.select(inside, x, zero);
            map.store("counted", x, DType::F32, to)
        })?;
        Ok(to)
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

    /// The sums of a step's gates: the input's part and the state's.
    fn gates(&mut self, now: &Moment, sums: Place, h: Place) -> Result<Place, GpuReject> {
        let Sizes { time, batch, hidden, .. } = self.sizes;
        let (columns, name) = (self.sizes.rows(), &now.name);
        // All rows count ahead of the first step.
        let h = match now.step.checked_sub(1) {
            Some(before) => self.of_longer(&format!("{name} counted"), (h, None), before)?,
            None => h,
        };
        let quantised = self.quantised(name, h, self.state())?;
        let at = affine(0, &[(0, hidden), (2, 1)])?;
        let of_moment = affine(now.at * batch * columns, &[(0, columns), (1, 1)])?;
        let more = [(sums, time * batch * columns, of_moment)];
        let product = format!("{name} product");
        self.product((&product, now.direction, R), (quantised, self.state(), at), &[batch], &more)
    }
}
