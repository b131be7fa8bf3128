//! Products with weights of 2, 4 or 8 bits in blocks, which stay packed on the device: one kernel that reads them so for up to
//! 16 rows, and for more of f16 and bf16 where tensor cores are. Without those it reads them again for every 16 rows, for up
//! to 64 rows or where memory is short. For more, and where terms name their blocks themselves, a map unpacks the weights
//! into the workspace, as elements of the type of the other matrix, and a product reads them there: what it writes and reads
//! is some 2 · 4 bytes a weight, which 64 rows take as long to multiply with.

use super::composition::{Composition, Place};
use super::copy;
use super::located::{Located, bytes, nothing};
use super::product::Product;
use super::tail::{From, Making, Tail};
use super::{element, extent};
use crate::cpu::block_quantised::BlockQuantised;
use crate::cpu::contraction::Contraction;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::TensorFact;
use crate::graph::fact::{Fact, Facts};
use crate::loops::program::{Kind, Reg};
use crate::tensor::Tensor;
use recurve_kernels::blocks::{self, Buffers, Shape, Zeros};
use recurve_kernels::gemv;
use recurve_kernels::launch::{Buffer, Launch};
use std::sync::Arc;

/// Positions of the inputs besides the left matrix.
const B: usize = 1;
const SCALES: usize = 2;
const ZEROS: usize = 3;
const GROUPS: usize = 4;
const BIAS: usize = 5;

/// A table with a row for each row of weights: where it is, its type and its columns.
#[derive(Clone, Copy)]
struct Table {
    place: Place,
    dtype: DType,
    columns: usize,
}

/// The numbers in the bytes of `place`, whose strides over the map's axes are `strides`; the last axis counts the numbers of
/// a byte.
fn numbers(
    map: &mut Located<'_>,
    product: &BlockQuantised,
    place: Place,
    strides: Vec<u64>,
) -> Result<Reg, GpuReject> {
    let axis = strides.len() - 1;
    let byte = map.read(place, DType::U8, strides, 0)?;
    let shifts: Vec<i32> = (0..8 / product.bits).map(|at| (at * product.bits) as i32).collect();
    let table = Tensor::new(&[shifts.len()], shifts).map_err(|_| GpuReject::NoKernel)?;
    let shift = map.table(&table, axis)?;
    let moved = map.builder.shr(byte, shift);
    let mask = map.builder.integer(Kind::I32, (1 << product.bits) - 1);
    let number = map.builder.and(moved, mask);
    Ok(map.builder.convert(number, Kind::F32))
}

/// As one kernel that reads packed weights, which lie in the blocks that have their scales.
fn fused(site: &GpuSite<'_>, product: &BlockQuantised) -> Result<GpuKernel, GpuReject> {
    let zeros = match site.inputs.has(ZEROS).then(|| site.dtype(ZEROS)).transpose()? {
        None => Zeros::Middle,
        Some(DType::U8) => Zeros::Packed(extent(product.zero_bytes())?),
        Some(_) => Zeros::Elements,
    };
    let [m, n, k] = [extent(product.m)?, extent(product.n)?, extent(product.k)?];
    let (bits, block) = (extent(product.bits)?, extent(product.block)?);
    let shape = Shape { element: element(site.dtype(0)?)?, m, n, k, bits, block, zeros };
    shape.accepts()?;
    let device = site.device;
    // Parts of the terms where tensor cores multiply.
    let parts = if m <= gemv::MOST { None } else { Some(blocks::tensor::parts(&shape, &device)?) };
    let workspace = parts.map_or(0, |parts| blocks::tensor::workspace_bytes(&shape, parts));
    let y = site.output_shape(0)?;
    let mut making = Making::over(site.dtype(0)?, &y);
    if site.inputs.has(BIAS) {
        let strides = (1..=y.len()).map(|axis| u64::from(axis == y.len())).collect();
        let bias = making.read(From::Input(BIAS), site.dtype(BIAS)?, strides, 0);
        let sum = making.builder.add(making.y, bias);
        making.set(sum);
    }
    let tail = making.finish(site)?;
    let data = Tail::data(tail.as_ref()).into_iter().collect();
    let kernel = GpuKernel::new(move |memory| {
        let input = |at: usize| memory.inputs.get(at).copied().unwrap_or(Buffer::default());
        Tail::with(tail.as_ref(), memory, |program| {
            let (x, w, scales, zeros) = (input(0), input(B), input(SCALES), input(ZEROS));
            let (y, workspace) = (memory.outputs[0], memory.workspace);
            let buffers = Buffers { x, w, scales, zeros, y, workspace, program };
            let Some(parts) = parts else {
                return Ok(vec![Arc::new(blocks::vectors::prepare(&shape, &buffers, &device)?) as _]);
            };
            let plan = blocks::tensor::prepare(&shape, parts, &buffers, &device)?;
            let sum = plan.sum.map(|sum| Arc::new(sum) as Arc<dyn Launch>);
            Ok([Arc::new(plan.product) as Arc<dyn Launch>].into_iter().chain(sum).collect())
        })
    });
    Ok(kernel.with_workspace(workspace as usize).with_resident(Vec::new(), data))
}

/// Rows for which packed weights are read again for every 16 of them, where no tensor cores multiply.
const MOST_REPEATED: usize = 64;

/// The same for 16 rows after the other.
fn repeated(site: &GpuSite<'_>, product: &BlockQuantised) -> Result<GpuKernel, GpuReject> {
    let (dtype, most) = (site.dtype(0)?, gemv::MOST as usize);
    let (x, y) = (bytes(dtype, &[product.k])?, bytes(dtype, &[product.n])?);
    let mut whole = Composition::new("rows");
    for first in (0..product.m).step_by(most) {
        let m = most.min(product.m - first);
        let rows = |width: usize| Fact::from(TensorFact::known(dtype, &[m, width]));
        let (of_x, made) = (rows(product.k), [rows(product.n)]);
        let mut given = site.inputs.0.to_vec();
        given[0] = Some(&of_x);
        let inner = GpuSite { inputs: Facts(&given), outputs: &made, strided: &[], ..*site };
        let kernel = fused(&inner, &BlockQuantised { m, ..*product })?;
        let mut places: Vec<Place> = (0..site.inputs.len()).map(Place::Input).collect();
        places[0] = Place::PartOfInput(0, first * x, m * x);
        let to = Place::PartOfOutput(0, first * y, m * y);
        whole.add(&first.to_string(), kernel, places, vec![to])?;
    }
    Ok(whole.finish())
}

/// The groups of `k` terms, and group 0 for what is unpacked behind them up to `depth`.
fn padded_groups(
    site: &GpuSite<'_>,
    whole: &mut Composition,
    [k, depth]: [usize; 2],
) -> Result<Place, GpuReject> {
    let padding = Tensor::new(&[depth - k], vec![0i32; depth - k]).map_err(|_| GpuReject::NoKernel)?;
    let of = |terms: usize| Fact::from(TensorFact::known(DType::I32, &[terms]));
    let (given, made) = ([of(k), of(depth - k)], [of(depth)]);
    let given: Vec<Option<&Fact>> = given.iter().map(Some).collect();
    let inner = GpuSite { inputs: Facts(&given), outputs: &made, strided: &[], behind: None, ..*site };
    let joined = copy::joined(&inner, 0)?;
    let groups = Place::PartOfInput(GROUPS, 0, bytes(DType::I32, &[k])?);
    let (padding, to) = (whole.derived(&padding), whole.between(bytes(DType::I32, &[depth])?)?);
    whole.add("groups", joined, vec![groups, padding], vec![to])?;
    Ok(to)
}

/// `a · wᵀ + bias` of these sizes.
pub(crate) fn kernel(site: &GpuSite<'_>, product: &BlockQuantised) -> Result<GpuKernel, GpuReject> {
    let &BlockQuantised { m, n, k, bits, .. } = product;
    let (dtype, blocks, blob, per) = (site.dtype(0)?, product.blocks(), product.blob(), 8 / bits);
    if m == 0 {
        return Ok(nothing());
    }
    if !site.inputs.has(GROUPS)
        && let Ok(kernel) = fused(site, product)
    {
        return Ok(kernel);
    }
    let few = m <= MOST_REPEATED || site.lean;
    if few
        && site.behind.is_none()
        && !site.inputs.has(GROUPS)
        && let Ok(kernel) = repeated(site, product)
    {
        return Ok(kernel);
    }
    let mut whole = Composition::new("");
    let mut scales = Table { place: Place::Input(SCALES), dtype, columns: blocks };
    let mut zeros = None;
    if site.inputs.has(ZEROS) {
        let columns = product.zero_bytes() * per;
        zeros = Some(if site.dtype(ZEROS)? == DType::U8 {
            let place = whole.between(bytes(DType::F32, &[n, columns])?)?;
            let mut map = Located::behind(whole, site, &[n, product.zero_bytes(), per]);
            let strides = vec![product.zero_bytes() as u64, 1, 0];
            let number = numbers(&mut map, product, Place::Input(ZEROS), strides)?;
            whole = map.store("zeros", number, DType::F32, place)?;
            Table { place, dtype: DType::F32, columns }
        } else {
            Table { place: Place::Input(ZEROS), dtype, columns: blocks }
        });
    }
    let grouped = site.inputs.has(GROUPS);
    // Terms of a row of unpacked weights: those of whole bytes, of which the product reads the first `k`.
    let depth = if grouped { k.next_multiple_of(per) } else { blocks * blob * per };
    if grouped {
        let groups =
            if depth == k { Place::Input(GROUPS) } else { padded_groups(site, &mut whole, [k, depth])? };
        for (name, table) in [("scales of terms", Some(&mut scales)), ("zeros of terms", zeros.as_mut())] {
            let Some(table) = table else { continue };
            let to = whole.between(bytes(table.dtype, &[n, depth])?)?;
            let from = [n, table.columns];
            let picked = copy::rows(site, [table.dtype, DType::I32], (&from, 1), &[depth])?;
            whole.add(name, picked, vec![table.place, groups], vec![to])?;
            (table.place, table.columns) = (to, depth);
        }
    }
    // The axes of the unpacked weights: rows, blocks, bytes of a block and numbers of a byte; without blocks where each
    // term has a scale of its own.
    let row = blocks * blob;
    let (space, packed) = if grouped {
        (vec![n, depth / per, per], vec![row as u64, 1, 0])
    } else {
        (vec![n, blocks, blob, per], vec![row as u64, blob as u64, 1, 0])
    };
    let of = |table: &Table| {
        let columns = table.columns as u64;
        if grouped { vec![columns, per as u64, 1] } else { vec![columns, 1, 0, 0] }
    };
    let weights = whole.between(bytes(dtype, &[n, depth])?)?;
    let mut map = Located::behind(whole, site, &space);
    let number = numbers(&mut map, product, Place::Input(B), packed)?;
    let zero = match &zeros {
        Some(table) => map.read(table.place, table.dtype, of(table), 0)?,
        None => map.builder.constant(Kind::F32, f64::from(1u32 << (bits - 1))),
    };
    let scale = map.read(scales.place, scales.dtype, of(&scales), 0)?;
    let from_zero = map.builder.sub(number, zero);
    let weight = map.builder.mul(from_zero, scale);
    let mut whole = map.store("weights", weight, dtype, weights)?;
    let facts = [
        Fact::from(TensorFact::known(dtype, &[m, k])),
        Fact::from(TensorFact::known(dtype, &[n, depth])),
        Fact::from(TensorFact::known(dtype, &[n])),
    ];
    let has_bias = site.inputs.has(BIAS);
    let given: Vec<Option<&Fact>> = facts.iter().take(if has_bias { 3 } else { 2 }).map(Some).collect();
    let made = [Fact::from(TensorFact::known(dtype, &[m, n]))];
    let inner = GpuSite {
        inputs: Facts(&given),
        outputs: &made,
        wanted: &[true],
        strided: &[],
        behind: None,
        ..*site
    };
    let contraction = Contraction { batch: Vec::new(), m, n, k, a: (k, 1), b: (1, depth), y: n };
    let addend = has_bias.then_some((2, [0, 1]));
    let multiplied =
        Product { contraction, offsets: [0; 2], alpha: 1.0, beta: 1.0, addend }.kernel(&inner)?;
    let mut operands = vec![Place::Input(0), weights];
    operands.extend(has_bias.then_some(Place::Input(BIAS)));
    whole.add("product", multiplied, operands, vec![Place::Output(0)])?;
    Ok(whole.finish())
}
