//! Random numbers, as maps: element `i` of a run is the function of `i` and of the run's stream that it is on the CPU
//! (`cpu/random`), bits and all. Where the stream begins is a word of pinned memory that each run writes; it is copied to the
//! device first, since every element reads it.

use super::composition::{Composition, Place};
use super::located::{Located, bytes, kind, nothing};
use super::map;
use crate::cpu::random::{GOLDEN, LAST_SHIFT, MIXES, RandomSource};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::fact::Fact;
use crate::loops::program::{Builder, Kind, Reg};

/// A map of drawn numbers in the making.
pub(super) struct Drawn<'a> {
    map: Located<'a>,
    columns: usize,
    start: Reg,
    /// The element's own, counted over the tensor.
    number: Reg,
}

/// Rows and columns of a tensor whose elements are counted by both, with the fewest of them.
fn rectangle(shape: &[usize]) -> [usize; 2] {
    let sides = (0..=shape.len()).map(|at| [&shape[..at], &shape[at..]].map(|side| side.iter().product()));
    sides.min_by_key(|sides: &[usize; 2]| sides[0].saturating_add(sides[1])).unwrap_or([1, 1])
}

/// What brings the beginning of a run's stream to the device, and where it is there.
fn begun(site: &GpuSite<'_>, source: &RandomSource) -> Result<(Composition, Place), GpuReject> {
    let mut whole = Composition::new("");
    let start = whole.between(8)?;
    let copied = map::moved(site, [DType::U64; 2], &[1], &[1])?.with_sources([source.clone()]);
    whole.add("start", copied, vec![Place::Start], vec![start])?;
    Ok((whole, start))
}

impl<'a> Drawn<'a> {
    /// The first of its composition, of the stream that `source` gives.
    pub(super) fn begin(
        site: &'a GpuSite<'a>,
        source: &RandomSource,
        shape: &[usize],
    ) -> Result<Self, GpuReject> {
        Self::behind(begun(site, source)?, site, shape)
    }

    /// A place for `bytes` between kernels.
    pub(super) fn between(&mut self, bytes: usize) -> Result<Place, GpuReject> {
        self.map.whole.between(bytes)
    }

    /// Stores `y` as elements of `dtype` at `to`.
    pub(super) fn store_at(
        self,
        name: &str,
        y: Reg,
        dtype: DType,
        to: Place,
    ) -> Result<Composition, GpuReject> {
        self.map.store(name, y, dtype, to)
    }

    /// Behind `whole`, of the stream that begins with what lies at `start`.
    fn behind(
        (whole, start): (Composition, Place),
        site: &'a GpuSite<'a>,
        shape: &[usize],
    ) -> Result<Self, GpuReject> {
        let [rows, columns] = rectangle(shape);
        let mut map = Located::behind(whole, site, &[rows, columns]);
        let start = map.read(start, DType::U64, vec![0, 0], 0)?;
        let (row, column) = (map.coordinate(0)?, map.coordinate(1)?);
        let b = &mut map.builder;
        let [row, column] = [row, column].map(|at| b.convert(at, Kind::U64));
        let wide = b.integer(Kind::U64, columns as i128);
        let first = b.mul(row, wide);
        let number = b.add(first, column);
        Ok(Self { map, columns, start, number })
    }

    /// The element of input `input`, which has the shape of the map.
    fn given(&mut self, input: usize, dtype: DType) -> Result<Reg, GpuReject> {
        self.map.read(Place::Input(input), dtype, vec![self.columns as u64, 1], 0)
    }

    /// What makes the rest.
    fn builder(&mut self) -> &mut Builder {
        &mut self.map.builder
    }

    /// The element's number, uniform in [0, 1), as f64.
    pub(super) fn uniform(&mut self) -> Reg {
        let b = &mut self.map.builder;
        let golden = b.integer(Kind::U64, GOLDEN.into());
        let far = b.mul(self.number, golden);
        let state = b.add(self.start, far);
        let mut z = b.add(state, golden);
        for (shift, factor) in MIXES {
            let (shift, factor) = (b.integer(Kind::U64, shift.into()), b.integer(Kind::U64, factor.into()));
            let high = b.shr(z, shift);
            let mixed = b.xor(z, high);
            z = b.mul(mixed, factor);
        }
        let last = b.integer(Kind::U64, LAST_SHIFT.into());
        let high = b.shr(z, last);
        let bits = b.xor(z, high);
        let eleven = b.integer(Kind::U64, 11);
        let whole = b.shr(bits, eleven);
        let whole = b.convert(whole, Kind::F64);
        let unit = b.constant(Kind::F64, 1.0 / (1u64 << 53) as f64);
        b.mul(whole, unit)
    }

    /// Stores `y`, of any kind, as output `output`.
    fn store(mut self, name: &str, y: Reg, output: usize) -> Result<Composition, GpuReject> {
        let dtype = output_type(self.map.site(), output)?;
        let y = self.map.builder.convert(y, kind(dtype)?);
        self.store_at(name, y, dtype, Place::Output(output))
    }
}

fn output_type(site: &GpuSite<'_>, output: usize) -> Result<DType, GpuReject> {
    Ok(site.outputs.get(output).and_then(Fact::tensor).ok_or(GpuReject::NoKernel)?.dtype)
}

/// Output 0 of numbers from `low` on, so far up.
pub(crate) fn uniform(
    site: &GpuSite<'_>,
    source: &RandomSource,
    [low, length]: [f64; 2],
) -> Result<GpuKernel, GpuReject> {
    let shape = site.output_shape(0)?;
    if shape.contains(&0) {
        return Ok(nothing());
    }
    let mut drawn = Drawn::begin(site, source, &shape)?;
    let number = drawn.uniform();
    let b = drawn.builder();
    let (low, length) = (b.constant(Kind::F64, low), b.constant(Kind::F64, length));
    let above = b.mul(length, number);
    let y = b.add(low, above);
    Ok(drawn.store("numbers", y, 0)?.finish())
}

/// Output 0 of normally distributed numbers: two uniform ones of each element in the workspace, which one program has too few
/// registers for, and what they make.
pub(crate) fn normal(
    site: &GpuSite<'_>,
    source: &RandomSource,
    [mean, scale]: [f64; 2],
) -> Result<GpuKernel, GpuReject> {
    let (mut shape, dtype) = (site.output_shape(0)?, output_type(site, 0)?);
    if shape.contains(&0) {
        return Ok(nothing());
    }
    let count: usize = shape.iter().product();
    shape.push(2);
    let (mut whole, start) = begun(site, source)?;
    let pairs = whole.between(bytes(DType::F64, &shape)?)?;
    let mut drawn = Drawn::behind((whole, start), site, &shape)?;
    let number = drawn.uniform();
    let whole = drawn.map.store("pairs", number, DType::F64, pairs)?;
    let mut map = Located::behind(whole, site, &[count]);
    let (radius, angle) =
        (map.read(pairs, DType::F64, vec![2], 0)?, map.read(pairs, DType::F64, vec![2], 1)?);
    let b = &mut map.builder;
    let [one, factor, turn] = [1.0, -2.0, std::f64::consts::TAU].map(|value| b.constant(Kind::F64, value));
    let radius = b.sub(one, radius);
    let logarithm = b.log(radius);
    let square = b.mul(factor, logarithm);
    let radius = b.sqrt(square);
    let angle = b.mul(turn, angle);
    let cosine = b.cos(angle);
    let number = b.mul(radius, cosine);
    let [mean, scale] = [mean, scale].map(|value| b.constant(Kind::F64, value));
    let away = b.mul(scale, number);
    let y = b.add(mean, away);
    let y = b.convert(y, kind(dtype)?);
    Ok(map.store("numbers", y, dtype, Place::Output(0))?.finish())
}

/// Output 0 of ones, each as probable as input 0 says, and zeros.
pub(crate) fn trials(site: &GpuSite<'_>, source: &RandomSource) -> Result<GpuKernel, GpuReject> {
    let (shape, to) = (site.output_shape(0)?, kind(output_type(site, 0)?)?);
    if shape.contains(&0) {
        return Ok(nothing());
    }
    let mut drawn = Drawn::begin(site, source, &shape)?;
    let given = drawn.given(0, site.dtype(0)?)?;
    let number = drawn.uniform();
    let b = drawn.builder();
    let probability = b.convert(given, Kind::F64);
    let hit = b.lt(number, probability);
    let (one, zero) = (b.constant(to, 1.0), b.constant(to, 0.0));
    let y = b.select(hit, one, zero);
    Ok(drawn.store("trials", y, 0)?.finish())
}

/// Input 0 with zeros in the place of a part `ratio` of its elements, the others made larger by as much, and which those are.
pub(crate) fn dropped(site: &GpuSite<'_>, source: &RandomSource, ratio: f64) -> Result<GpuKernel, GpuReject> {
    let shape = site.output_shape(0)?;
    if shape.contains(&0) {
        return Ok(nothing());
    }
    let (mut whole, start) = begun(site, source)?;
    for output in (0..2).filter(|&output| site.wanted.get(output) == Some(&true)) {
        let mut drawn = Drawn::behind((whole, start), site, &shape)?;
        let number = drawn.uniform();
        let least = drawn.builder().constant(Kind::F64, ratio);
        let kept = drawn.builder().ge(number, least);
        whole = if output == 1 {
            drawn.store("mask", kept, output)?
        } else {
            let x = drawn.given(0, site.dtype(0)?)?;
            let b = drawn.builder();
            let x = b.convert(x, Kind::F64);
            let (scale, zero) = (b.constant(Kind::F64, 1.0 / (1.0 - ratio)), b.constant(Kind::F64, 0.0));
            let larger = b.mul(x, scale);
            let y = b.select(kept, larger, zero);
            drawn.store("kept", y, output)?
        };
    }
    Ok(whole.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_is_counted_by_few_rows_and_columns() {
        assert_eq!(rectangle(&[1, 192, 500]), [192, 500]);
        assert_eq!(rectangle(&[4, 3, 5, 7]), [12, 35]);
        assert_eq!(rectangle(&[9]), [1, 9]);
        assert_eq!(rectangle(&[]), [1, 1]);
    }
}
