//! Products against sums in f64.

use super::Failure;
use super::draw::{Draw, encode};
use super::epilogue::Behind;
use super::lab::{Lab, close};
use crate::element::Element;
use crate::gemm::{Factors, Matrix, Operands, Problem, Variant, by_id, warpgroup};
use crate::launch::Buffer;

/// Scalar arithmetic: small tiles, and large ones in every fifth case.
pub(super) fn simt(number: u32, g: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    if number % 5 == 4 {
        return one_of(&["simt_128_f32"], g, lab);
    }
    one_of(&["simt_64_f32", "simt_64_f16", "simt_64_bf16"], g, lab)
}

/// Tensor cores, f16, every layout in its turn.
pub(super) fn tensor_f16(number: u32, g: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let ids = ["tensor_f16_nn", "tensor_f16_nt", "tensor_f16_tn", "tensor_f16_tt"];
    one_of(&[ids[number as usize % 4]], g, lab)
}

/// The same, bf16.
pub(super) fn tensor_bf16(number: u32, g: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let ids = ["tensor_bf16_nn", "tensor_bf16_nt", "tensor_bf16_tn", "tensor_bf16_tt"];
    one_of(&[ids[number as usize % 4]], g, lab)
}

/// Tensor cores, f32 rounded to tf32, every layout in its turn.
pub(super) fn tf32(number: u32, g: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let (variant, splits) = (by_id("tf32")?, g.pick(&[1, 1, 2, 3]));
    let layout = [number & 1 != 0, number & 2 != 0];
    Case::of_layout(g, variant, Some(layout))?.check(variant, splits, lab).map(drop)
}

/// Tensor cores of Hopper: every layout of both types in its turn, and then the same problem by `mma.sync`.
pub(super) fn wgmma(number: u32, g: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let types = [["wgmma_f16", "tensor_f16"], ["wgmma_bf16", "tensor_bf16"]];
    let [own, other] = types[number as usize / 4 % 2];
    let layout = ["nn", "nt", "tn", "tt"][number as usize % 4];
    let [own, other] = [by_id(&format!("{own}_{layout}"))?, by_id(&format!("{other}_{layout}"))?];
    let splits = g.pick(&[1, 1, 2, 3]);
    let case = Case::draw(g, own)?;
    let got = case.check(own, splits, lab)?;
    // Both are held to the same definition, and closer to each other: their products have the same factors and order.
    let reference = case.check(other, splits, lab)?;
    let element = case.of_c();
    for (at, (got, want)) in got.into_iter().zip(reference).enumerate() {
        close(got.into(), want.into(), element, 64.0, || {
            format!("{} and {} at {at}, {:?}", own.id, other.id, case.problem)
        })?;
    }
    Ok(())
}

/// The same with a packed B, of any layout.
pub(super) fn wgmma_packed(number: u32, g: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    one_of(&[["wgmma_f16_packed", "wgmma_bf16_packed"][number as usize % 2]], g, lab)
}

fn one_of(ids: &[&str], g: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let variant = by_id(g.pick(ids))?;
    let splits = g.pick(&[1, 1, 2, 3]);
    Case::draw(g, variant)?.check(variant, splits, lab).map(drop)
}

/// One more than the largest offset of an array of these extents and strides; 0 where an extent is 0.
fn reach(axes: &[(u32, u64)]) -> u64 {
    if axes.iter().any(|&(extent, _)| extent == 0) {
        return 0;
    }
    1 + axes.iter().map(|&(extent, stride)| u64::from(extent - 1) * stride).sum::<u64>()
}

/// The number of 11 significant bits that is nearest, halves away from zero.
pub(super) fn nearest_tf32(x: f64) -> f64 {
    if x == 0.0 {
        return x;
    }
    let unit = (x.abs().log2().floor() - 10.0).exp2();
    (x / unit).round() * unit
}

/// A drawn problem with its operands on the host.
struct Case {
    problem: Problem,
    a: Vec<f32>,
    b: Vec<f32>,
    behind: Option<Behind>,
}

/// Extents on the edges of tiles and steps, and others.
fn extent(g: &mut Draw, edges: &[u32]) -> u32 {
    if g.bool() { g.pick(edges) } else { g.within(1..=70) }
}

impl Case {
    fn draw(g: &mut Draw, variant: &Variant) -> Result<Self, Failure> {
        Self::of_layout(g, variant, variant.layout)
    }

    /// With A and B so transposed, or with any layout.
    fn of_layout(g: &mut Draw, variant: &Variant, layout: Option<[bool; 2]>) -> Result<Self, Failure> {
        let edges: &[u32] =
            if variant.tile == 128 { &[1, 7, 8, 127, 128, 129, 130] } else { &[1, 8, 63, 64, 65, 97] };
        let [m, n] = [extent(g, edges), extent(g, edges)];
        let k = extent(g, &[1, 7, 8, 9, 16, 31, 32, 33, 40, 64, 95]);
        let batches = if g.bool() { [1, 1] } else { [g.within(1..=2), g.within(1..=3)] };
        let element = variant.element;
        let [a_transposed, mut b_transposed] = layout.unwrap_or_else(|| [g.bool(), g.bool()]);
        b_transposed |= variant.packed && g.bool();
        let piece = variant.piece;
        let mut matrix = |transposed: bool, rows: u32, columns: u32| {
            let [rows, columns] = if transposed { [columns, rows] } else { [rows, columns] };
            let row = (u64::from(columns) + u64::from(g.within(0..=5))).next_multiple_of(piece);
            let inner = if g.bool() { 0 } else { u64::from(rows) * row };
            let outer = if g.bool() { 0 } else { u64::from(rows) * row * u64::from(batches[1]) };
            Matrix { transposed, row, batch: [outer, inner] }
        };
        let (a, mut b) = (matrix(a_transposed, m, k), matrix(b_transposed, k, n));
        if variant.packed {
            b.batch = [0, 0];
        }
        let problem = Problem { element, factors: Factors::Tf32, m, n, k, batches, a, b };
        let mut values = |count: u64, element| g.floats(element, count as usize, 1.0);
        let size = |matrix: &Matrix, rows: u32, columns: u32| {
            let [rows, columns] = if matrix.transposed { [columns, rows] } else { [rows, columns] };
            reach(&[
                (batches[0], matrix.batch[0]),
                (batches[1], matrix.batch[1]),
                (rows, matrix.row),
                (columns, 1),
            ])
        };
        let a_values = values(size(&a, m, k), element);
        let b_values = values(size(&b, k, n), element);
        let space = [batches[0], batches[1], m, n].map(u64::from);
        let behind = Behind::draw(g, element, &space)?;
        Ok(Self { problem, a: a_values, b: b_values, behind })
    }

    /// B as the variant reads it.
    fn stored_b(&self, variant: &Variant) -> Vec<u8> {
        let Problem { element, b, .. } = self.problem;
        let bytes = encode(element, &self.b);
        if !variant.packed {
            return bytes;
        }
        let mut packed = vec![0; variant.packed_bytes(&self.problem) as usize];
        let row = b.row as usize;
        let strides = if b.transposed { [1, row] } else { [row, 1] };
        warpgroup::pack(&self.problem, &bytes, strides, &mut packed);
        packed
    }

    /// Type of C.
    fn of_c(&self) -> Element {
        self.behind.as_ref().map_or(self.problem.element, |behind| behind.element)
    }

    /// Runs the variant and compares every element of C, which it gives.
    fn check(&self, variant: &Variant, splits: u32, lab: &mut Lab<'_>) -> Result<Vec<f32>, Failure> {
        let Problem { element, m, n, k, batches, .. } = self.problem;
        let count = batches[0] * batches[1];
        let elements = u64::from(count) * u64::from(m) * u64::from(n);
        let workspace = variant.workspace_bytes(&self.problem, splits);
        let program = self.behind.as_ref().map(|behind| behind.upload(lab)).transpose()?;
        let of_c = self.of_c();
        let operands = Operands {
            a: lab.upload_floats("A", element, &self.a)?,
            b: lab.upload("B", &self.stored_b(variant))?,
            c: lab.room("C", elements * of_c.bytes())?,
            workspace: if splits > 1 { lab.room("workspace", workspace)? } else { Buffer::default() },
            program,
        };
        let plan = variant.prepare(&self.problem, splits, &operands, &lab.device())?;
        lab.run(plan.product)?;
        if let Some(sum) = plan.sum {
            lab.run(sum)?;
        }
        let unit = match of_c {
            Element::F32 => 2f64.powi(-21),
            Element::F16 => 2f64.powi(-11),
            Element::BF16 => 2f64.powi(-8),
        };
        let mut all = Vec::new();
        for batch in 0..count {
            let at = |strides: [u64; 2]| {
                let (outer, inner) = (u64::from(batch / batches[1]), u64::from(batch % batches[1]));
                outer * strides[0] + inner * strides[1]
            };
            for i in 0..u64::from(m) {
                let first = (u64::from(batch) * u64::from(m) + i) * u64::from(n);
                let row = lab.floats(operands.c, of_c, first, n as usize)?;
                for j in 0..u64::from(n) {
                    let (mut sum, mut size) = (0.0, 0.0);
                    for l in 0..u64::from(k) {
                        let of = |values: &[f32], matrix: &Matrix, y: u64, x: u64| {
                            let [y, x] = if matrix.transposed { [x, y] } else { [y, x] };
                            let factor = f64::from(values[(at(matrix.batch) + y * matrix.row + x) as usize]);
                            if variant.id == "tf32" { nearest_tf32(factor) } else { factor }
                        };
                        let term = of(&self.a, &self.problem.a, i, l) * of(&self.b, &self.problem.b, l, j);
                        sum += term;
                        size += term.abs();
                    }
                    let behind = self.behind.as_ref();
                    let expected = behind.map_or(sum, |behind| behind.of(sum, first + j));
                    // Four steps may each double the error of the sum.
                    let bound = 2f64.powi(-20) * (f64::from(k) + 8.0) * (size + 1.0) * 4.0;
                    let error = (f64::from(row[j as usize]) - expected).abs();
                    let bound = bound + unit * expected.abs() + if of_c == Element::F16 { 6e-8 } else { 0.0 };
                    if error > bound || error.is_nan() {
                        let (id, got) = (variant.id, row[j as usize]);
                        let place = format!("{id} {splits} [{batch}, {i}, {j}]");
                        let (problem, steps) = (self.problem, behind.map(Behind::steps));
                        let what = format!("{place}: {got} for {expected}, {problem:?}, {steps:?}");
                        return Err(Failure::Wrong(what));
                    }
                }
                all.extend(row);
            }
        }
        Ok(all)
    }
}
