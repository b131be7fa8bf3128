//! # General matrix products
//! `C = program(A·B, …)` over a batch, `A` of `m × k`, `B` of `k × n`, C dense; A and B may be stored transposed, rows may be
//! apart, and batches have two axes with a stride each (0 repeats an operand). The program is the `epilogue`.
//!
//! - [`simt`]: any element type, one fused multiply-add per product, f32 sums in the order of k.
//! - [`tensor`]: f16 and bf16 by `mma.sync`, f32 sums in groups of 16 along k, operands by `cp.async`.
//! - [`tf32`]: f32 by `mma.sync` of factors rounded to tf32, where the caller allows it.
//! - [`warpgroup`]: the same by `wgmma` on compute capability 9.0, operands from shared memory.
//! - `frame`: what the kernels on `mma.sync`, those of convolutions, too, have in common.
//! - [`split_k`]: where tiles are too few for the device, a tile's k is cut into parts that are summed in their order by
//!   a second launch, so that results do not depend on timing.
//! - [`integer`]: quantised matrices, with parameters of its own and without a program.
//!
//! The error is that of a sum of k products in f32: at most `(k + 2) · 2⁻²⁴ · Σ|a·b|`, and the rounding to C's type; with
//! factors rounded to tf32 `2⁻¹⁰ · Σ|a·b|` more.

pub(crate) mod frame;
pub mod integer;
pub mod simt;
pub mod split_k;
pub mod tensor;
#[cfg(test)]
mod tests;
pub mod tf32;
pub mod warpgroup;

use crate::device::{Global, thread};
use crate::dtype::DType;
use crate::element::Element;
use crate::epilogue::{Epilogue, Program, Slab, shared_bytes};
use crate::launch::{Buffer, Device, Entry, Geometry, Prepared, Reject};
use frame::{Factor, Operand, Sums};

/// What every kernel of the family takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    a: Global<u8>,
    b: Global<u8>,
    partials: Global<f32>,
    /// Elements between the outer and the inner axis' batches.
    a_batch: [u64; 2],
    b_batch: [u64; 2],
    /// Elements between the rows as they are stored.
    a_row: u64,
    b_row: u64,
    epilogue: Epilogue,
    m: u32,
    n: u32,
    k: u32,
    batches: [u32; 2],
    splits: u32,
    /// Terms of one part.
    split_terms: u32,
    transposed: u32,
}

const _: () = assert!(size_of::<Params>() == 200);

/// Quotient and remainder; a divisor is never 0, but the compiler would leave a panic in the code.
#[inline(always)]
fn divided(number: u32, by: u32) -> (u32, u32) {
    let quotient = number.checked_div(by).unwrap_or(0);
    (quotient, number - quotient * by)
}

/// Bits of `Params::transposed`.
const A_TRANSPOSED: u32 = 1;
const B_TRANSPOSED: u32 = 2;

impl Params {
    /// Offsets of A and B of a batch, in elements.
    #[inline(always)]
    fn offsets(&self, batch: u32) -> [usize; 2] {
        let (outer, inner) = divided(batch, self.batches[1]);
        let (outer, inner) = (u64::from(outer), u64::from(inner));
        let of = |strides: [u64; 2]| (outer * strides[0] + inner * strides[1]) as usize;
        [of(self.a_batch), of(self.b_batch)]
    }

    /// The number in C, or among the parts, of an element of the product of `place`, and how many of its row follow.
    #[inline(always)]
    fn element(&self, place: Place, row: u32, column: u32) -> (u64, u32) {
        let (row, column) = (place.row + row, place.column + column);
        let matrix =
            u64::from(if self.splits > 1 { place.batch * self.splits + place.split } else { place.batch });
        let first = (matrix * u64::from(self.m) + u64::from(row)) * u64::from(self.n) + u64::from(column);
        (first, if row < self.m { self.n.saturating_sub(column) } else { 0 })
    }

    /// Makes of a slab's sums what there is to be made of them: C, or a part. `row_of` gives a staged row's number in the
    /// tile.
    #[inline(always)]
    fn store_slab(&self, place: Place, slab: Slab, row_of: impl Fn(u32) -> u32) {
        self.epilogue.store_slab(slab, |row, column| self.element(place, row_of(row), column));
    }

    /// The thread's sums of a tile in the frame of `mma.sync`.
    #[inline(always)]
    fn frame_sums<F: Factor, const A_TURNED: bool, const B_TURNED: bool>(&self, place: Place) -> Sums {
        let [a_offset, b_offset] = self.offsets(place.batch);
        let terms = self.terms(place.split);
        let a = Operand::<F, A_TURNED> {
            elements: self.a.cast::<F::Bits>().offset(a_offset),
            row: self.a_row,
            edge: place.row,
            edge_end: self.m,
            terms,
            stages: frame::stages::<F>(0),
        };
        let mut b = Operand::<F, B_TURNED> {
            elements: self.b.cast::<F::Bits>().offset(b_offset),
            row: self.b_row,
            edge: place.column,
            edge_end: self.n,
            terms,
            stages: frame::stages::<F>(1),
        };
        frame::sums::<F>(&a, &mut b, terms)
    }

    /// Batches of both axes.
    #[inline(always)]
    fn batch_count(&self) -> u32 {
        self.batches[0] * self.batches[1]
    }

    /// The terms of part `split`: from, to.
    #[inline(always)]
    fn terms(&self, split: u32) -> [u32; 2] {
        let from = split * self.split_terms;
        [from, self.k.min(from + self.split_terms)]
    }
}

/// Where a block's tile lies.
#[derive(Clone, Copy)]
struct Place {
    batch: u32,
    split: u32,
    row: u32,
    column: u32,
}

impl Place {
    /// Where the tile of this block lies.
    #[inline(always)]
    fn of_block(p: &Params, tile: u32) -> Self {
        let (batch, split) = divided(thread::block_idx_z(), p.splits);
        Self { batch, split, row: thread::block_idx_x() * tile, column: thread::block_idx_y() * tile }
    }
}

/// What factors of f32 may be rounded to before they are multiplied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Factors {
    /// They stay what they are.
    Own,
    /// To tf32, 10 bits of the fraction, where tensor cores multiply them then; other kernels take them as they are.
    Tf32,
}

/// A product as the caller describes it: sizes and layouts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Type of A, B and C.
    pub element: Element,
    /// What A and B may be rounded to, if they are f32.
    pub factors: Factors,
    /// Rows of C.
    pub m: u32,
    /// Columns of C.
    pub n: u32,
    /// Terms of a sum.
    pub k: u32,
    /// Batches along the outer and the inner axis.
    pub batches: [u32; 2],
    /// A.
    pub a: Matrix,
    /// B.
    pub b: Matrix,
}

/// How an operand is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Matrix {
    /// Whether what is stored is the transposed matrix.
    pub transposed: bool,
    /// Elements between the stored rows.
    pub row: u64,
    /// Elements between batches along the outer and the inner axis.
    pub batch: [u64; 2],
}

/// The memory of a launch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Operands {
    /// A.
    pub a: Buffer,
    /// B.
    pub b: Buffer,
    /// C, which is written.
    pub c: Buffer,
    /// [`Variant::workspace_bytes`] bytes of scratch memory.
    pub workspace: Buffer,
    /// What comes between the product and C.
    pub program: Option<Program>,
}

/// One kernel of the family for one element type and layout.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// The stable name.
    pub id: &'static str,
    /// Type of the operands.
    pub element: Element,
    entry: &'static Entry<Params>,
    /// Rows and columns of a block's tile.
    pub(crate) tile: u32,
    /// Terms of a step.
    step: u32,
    threads: u32,
    shared: u32,
    /// Bytes of a slab of sums.
    slab: u32,
    /// The one layout that it reads (A, B transposed); `None`: any.
    pub(crate) layout: Option<[bool; 2]>,
    /// The one compute capability that has its instructions; `None`: the entry's and all above.
    only: Option<u32>,
    /// Whether it reads a B that [`warpgroup::pack`] has packed.
    pub(crate) packed: bool,
    /// Elements that it copies at once, at whose multiples rows and batches begin.
    pub(crate) piece: u64,
    /// What it rounds factors to.
    factors: Factors,
}

/// A product as launches: the product itself, and the sum of its parts where k is split.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Writes C, or the parts.
    pub product: Prepared<Params>,
    /// Writes C from the parts.
    pub sum: Option<Prepared<Params>>,
}

/// Every variant.
pub static VARIANTS: &[Variant] = &[
    simt::variant("simt_128_f32", Element::F32, &simt::GEMM_SIMT_128_F32, 128),
    simt::variant("simt_64_f32", Element::F32, &simt::GEMM_SIMT_64_F32, 64),
    simt::variant("simt_64_f16", Element::F16, &simt::GEMM_SIMT_64_F16, 64),
    simt::variant("simt_64_bf16", Element::BF16, &simt::GEMM_SIMT_64_BF16, 64),
    warpgroup::variant("wgmma_f16_nn", Element::F16, &warpgroup::GEMM_WGMMA_F16_NN, [false, false]),
    warpgroup::variant("wgmma_f16_nt", Element::F16, &warpgroup::GEMM_WGMMA_F16_NT, [false, true]),
    warpgroup::variant("wgmma_f16_tn", Element::F16, &warpgroup::GEMM_WGMMA_F16_TN, [true, false]),
    warpgroup::variant("wgmma_f16_tt", Element::F16, &warpgroup::GEMM_WGMMA_F16_TT, [true, true]),
    warpgroup::variant("wgmma_bf16_nn", Element::BF16, &warpgroup::GEMM_WGMMA_BF16_NN, [false, false]),
    warpgroup::variant("wgmma_bf16_nt", Element::BF16, &warpgroup::GEMM_WGMMA_BF16_NT, [false, true]),
    warpgroup::variant("wgmma_bf16_tn", Element::BF16, &warpgroup::GEMM_WGMMA_BF16_TN, [true, false]),
    warpgroup::variant("wgmma_bf16_tt", Element::BF16, &warpgroup::GEMM_WGMMA_BF16_TT, [true, true]),
    warpgroup::packed("wgmma_f16_packed", Element::F16, &warpgroup::GEMM_WGMMA_F16_PACKED),
    warpgroup::packed("wgmma_bf16_packed", Element::BF16, &warpgroup::GEMM_WGMMA_BF16_PACKED),
    tf32::VARIANT,
    tensor::variant_f16("tensor_f16_nn", &tensor::GEMM_TENSOR_F16_NN, [false, false]),
    tensor::variant_f16("tensor_f16_nt", &tensor::GEMM_TENSOR_F16_NT, [false, true]),
    tensor::variant_f16("tensor_f16_tn", &tensor::GEMM_TENSOR_F16_TN, [true, false]),
    tensor::variant_f16("tensor_f16_tt", &tensor::GEMM_TENSOR_F16_TT, [true, true]),
    tensor::variant_bf16("tensor_bf16_nn", &tensor::GEMM_TENSOR_BF16_NN, [false, false]),
    tensor::variant_bf16("tensor_bf16_nt", &tensor::GEMM_TENSOR_BF16_NT, [false, true]),
    tensor::variant_bf16("tensor_bf16_tn", &tensor::GEMM_TENSOR_BF16_TN, [true, false]),
    tensor::variant_bf16("tensor_bf16_tt", &tensor::GEMM_TENSOR_BF16_TT, [true, true]),
];

/// The variant of this id.
pub fn by_id(id: &str) -> Result<&'static Variant, Reject> {
    VARIANTS.iter().find(|variant| variant.id == id).ok_or(Reject::UnknownVariant)
}

/// The variant, and the parts of k, for a problem whose B is constant and may be packed; `None`: it is read as it lies.
pub fn choose_packed(problem: &Problem, device: &Device) -> Option<(&'static Variant, u32)> {
    let variant = VARIANTS.iter().filter(|variant| variant.packed);
    let variant = variant.into_iter().find(|variant| variant.accepts(problem, device).is_ok())?;
    Some((variant, variant.parts(problem, device)))
}

/// The variant and the parts of k that suit the problem on a device: tensor cores where they apply, large tiles where
/// there are enough of them that lie mostly inside, and more parts while tiles leave multiprocessors idle.
pub fn choose(problem: &Problem, device: &Device) -> Result<(&'static Variant, u32), Reject> {
    let accepted = |variant: &&Variant| !variant.packed && variant.accepts(problem, device).is_ok();
    let enough = |variant: &&Variant| variant.tiles(problem) >= u64::from(device.multiprocessors);
    let tensor = VARIANTS.iter().filter(|variant| variant.piece > 1).find(accepted);
    let any = VARIANTS.iter().filter(accepted).min_by_key(|variant| variant.tile);
    // Sums that the tiles have, those outside the matrix too: at most a quarter more than small tiles have.
    let sums = |variant: &Variant| variant.tiles(problem) * u64::from(variant.tile) * u64::from(variant.tile);
    let fills = |variant: &&Variant| any.is_some_and(|any| sums(variant) <= sums(any) + sums(any) / 4);
    let large = VARIANTS.iter().filter(accepted).filter(enough).find(fills);
    let variant = tensor.or(large).or(any).ok_or(Reject::ElementType { operand: "A" })?;
    Ok((variant, variant.parts(problem, device)))
}

impl Variant {
    /// Tiles of all batches.
    pub(crate) fn tiles(&self, problem: &Problem) -> u64 {
        let tiles = u64::from(problem.m.div_ceil(self.tile)) * u64::from(problem.n.div_ceil(self.tile));
        tiles * u64::from(problem.batches[0]) * u64::from(problem.batches[1])
    }

    /// The parts of k that keep a device busy.
    fn parts(&self, problem: &Problem, device: &Device) -> u32 {
        let idle = u64::from(device.multiprocessors) / self.tiles(problem).max(1);
        let steps = u64::from(problem.k.div_ceil(self.step));
        // A part shorter than eight steps does not hide its start.
        idle.min(steps / 8).clamp(1, 16) as u32
    }

    /// Bytes of a packed B; 0 where it is read as it lies.
    pub fn packed_bytes(&self, problem: &Problem) -> u64 {
        if self.packed { warpgroup::packed_bytes(problem) } else { 0 }
    }

    /// Whether the variant computes `problem` on `device`.
    pub fn accepts(&self, problem: &Problem, device: &Device) -> Result<(), Reject> {
        if problem.element != self.element {
            return Err(Reject::ElementType { operand: "A" });
        }
        if device.capability < self.entry.kernel.capability {
            return Err(Reject::Capability { needed: self.entry.kernel.capability, got: device.capability });
        }
        if let Some(needed) = self.only.filter(|&needed| needed != device.capability) {
            return Err(Reject::Capability { needed, got: device.capability });
        }
        if self.factors != Factors::Own && problem.factors != self.factors {
            return Err(Reject::Unsupported { what: "factors that are to stay as they are" });
        }
        if let Some([a, b]) = self.layout
            && (problem.a.transposed != a || (problem.b.transposed != b && !self.packed))
        {
            return Err(Reject::Unsupported { what: "this layout" });
        }
        if self.packed && problem.b.batch != [0, 0] {
            return Err(Reject::Unsupported { what: "a packed B of several batches" });
        }
        // The kernel counts the elements of a tile's terms in 32 bits.
        let (got, limit) = (u64::from(problem.k), 1 << 24);
        if self.packed && got > limit {
            return Err(Reject::Extent { name: "terms of a packed B", got, limit });
        }
        // Pieces start at multiples of their elements in every row of every batch.
        for (name, got) in [
            ("A's rows", problem.a.row),
            ("B's rows", if self.packed { 0 } else { problem.b.row }),
            ("A's outer batches", problem.a.batch[0]),
            ("A's inner batches", problem.a.batch[1]),
            ("B's outer batches", problem.b.batch[0]),
            ("B's inner batches", problem.b.batch[1]),
        ] {
            if !got.is_multiple_of(self.piece) {
                return Err(Reject::Multiple { name, got, of: self.piece });
            }
        }
        Ok(())
    }

    /// Bytes of the workspace for a number of parts.
    pub fn workspace_bytes(&self, problem: &Problem, splits: u32) -> u64 {
        if splits < 2 {
            return 0;
        }
        product(&[
            4,
            splits.into(),
            problem.m.into(),
            problem.n.into(),
            problem.batches[0].into(),
            problem.batches[1].into(),
        ])
    }

    /// Checks everything and makes the launches; k in `splits` parts.
    pub fn prepare(
        &self,
        problem: &Problem,
        splits: u32,
        operands: &Operands,
        device: &Device,
    ) -> Result<Plan, Reject> {
        self.accepts(problem, device)?;
        let Problem { m, n, k, batches, .. } = *problem;
        let count = u64::from(batches[0]) * u64::from(batches[1]);
        let blocks = count.saturating_mul(splits.into());
        if splits == 0 || blocks > 65_535 {
            return Err(Reject::Extent { name: "batches × parts of k", got: blocks, limit: 65_535 });
        }
        let bytes = self.element.bytes();
        let alignment = self.piece * bytes;
        let stored = |matrix: &Matrix, rows: u32, columns: u32| {
            let [rows, columns] = if matrix.transposed { [columns, rows] } else { [rows, columns] };
            let elements = reach(&[
                (batches[0], matrix.batch[0]),
                (batches[1], matrix.batch[1]),
                (rows, matrix.row),
                (columns, 1),
            ]);
            (u64::from(columns) <= matrix.row || rows < 2).then_some(elements.saturating_mul(bytes))
        };
        let overlap = |operand| Reject::Unsupported { what: operand };
        let a = stored(&problem.a, m, k).ok_or(overlap("rows of A that overlap"))?;
        let b = if self.packed { Some(self.packed_bytes(problem)) } else { stored(&problem.b, k, n) };
        let b = b.ok_or(overlap("rows of B that overlap"))?;
        operands.a.holds("A", a, alignment)?;
        operands.b.holds("B", b, alignment)?;
        let elements = product(&[count, m.into(), n.into()]);
        let (program, c) = (operands.program.as_ref(), operands.c);
        let last = Epilogue::new(program, c, elements, self.element.into())?;
        operands.workspace.holds("workspace", self.workspace_bytes(problem, splits), 4)?;
        let split_terms = k.div_ceil(splits).next_multiple_of(self.step);
        let flags = [(problem.a.transposed, A_TRANSPOSED), (problem.b.transposed, B_TRANSPOSED)];
        let params = Params {
            a: Global::from_address(operands.a.address),
            b: Global::from_address(operands.b.address),
            partials: Global::from_address(operands.workspace.address),
            a_batch: problem.a.batch,
            b_batch: problem.b.batch,
            a_row: problem.a.row,
            b_row: problem.b.row,
            epilogue: last,
            m,
            n,
            k,
            batches,
            splits,
            split_terms,
            transposed: flags.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum(),
        };
        // Parts are stored as they are.
        let first = if splits > 1 {
            let bytes = self.workspace_bytes(problem, splits);
            let parts = Epilogue::new(None, operands.workspace, bytes / 4, DType::F32)?;
            Params { epilogue: parts, ..params }
        } else {
            params
        };
        let geometry = Geometry {
            grid: [m.div_ceil(self.tile), n.div_ceil(self.tile), blocks as u32],
            ..Geometry::linear(1, self.threads)
        };
        let shared = shared_bytes(self.slab, self.threads, first.epilogue.slots()).max(self.shared);
        let shared = shared + if self.packed { warpgroup::ARRIVALS } else { 0 };
        let product = Prepared::new(self.entry, geometry.with_shared(shared), first, device)?;
        let sum = split_k::geometry(elements, last.slots());
        let sum =
            (splits > 1).then(|| Prepared::new(&split_k::GEMM_SUM, sum?, params, device)).transpose()?;
        Ok(Plan { product, sum })
    }
}

fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |product: u64, &factor| product.saturating_mul(factor))
}

/// One more than the largest offset of an array with these extents and strides; 0 where an extent is 0.
fn reach(axes: &[(u32, u64)]) -> u64 {
    if axes.iter().any(|&(extent, _)| extent == 0) {
        return 0;
    }
    let last = axes.iter().map(|&(extent, stride)| u64::from(extent - 1).saturating_mul(stride));
    last.fold(1, u64::saturating_add)
}
