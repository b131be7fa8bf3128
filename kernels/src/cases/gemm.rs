//! Products against sums in f64.

use super::Failure;
use super::activation::{ALL, reference};
use super::draw::Draw;
use super::lab::Lab;
use crate::activation::{Activation, Function};
use crate::element::Element;
use crate::gemm::{Matrix, Operands, Problem, Variant, by_id};
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

fn one_of(ids: &[&str], g: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let variant = by_id(g.pick(ids))?;
    let splits = g.pick(&[1, 1, 2, 3]);
    Case::draw(g, variant).check(variant, splits, lab)
}

/// One more than the largest offset of an array of these extents and strides; 0 where an extent is 0.
fn reach(axes: &[(u32, u64)]) -> u64 {
    if axes.iter().any(|&(extent, _)| extent == 0) {
        return 0;
    }
    1 + axes.iter().map(|&(extent, stride)| u64::from(extent - 1) * stride).sum::<u64>()
}

/// A drawn problem with its operands on the host.
struct Case {
    problem: Problem,
    function: (Function, f32, f32),
    a: Vec<f32>,
    b: Vec<f32>,
    d: Vec<f32>,
}

/// Extents on the edges of tiles and steps, and others.
fn extent(g: &mut Draw, edges: &[u32]) -> u32 {
    if g.bool() { g.pick(edges) } else { g.within(1..=70) }
}

impl Case {
    fn draw(g: &mut Draw, variant: &Variant) -> Self {
        let edges: &[u32] =
            if variant.tile == 128 { &[1, 7, 8, 127, 128, 129, 130] } else { &[1, 8, 63, 64, 65, 97] };
        let [m, n] = [extent(g, edges), extent(g, edges)];
        let k = extent(g, &[1, 7, 8, 9, 16, 31, 32, 33, 40, 64, 95]);
        let batches = if g.bool() { [1, 1] } else { [g.within(1..=2), g.within(1..=3)] };
        let element = variant.element;
        let [a_transposed, b_transposed] = variant.layout.unwrap_or_else(|| [g.bool(), g.bool()]);
        let piece = if variant.layout.is_some() { 8u64 } else { 1 };
        let mut matrix = |transposed: bool, rows: u32, columns: u32| {
            let [rows, columns] = if transposed { [columns, rows] } else { [rows, columns] };
            let row = (u64::from(columns) + u64::from(g.within(0..=5))).next_multiple_of(piece);
            let inner = if g.bool() { 0 } else { u64::from(rows) * row };
            let outer = if g.bool() { 0 } else { u64::from(rows) * row * u64::from(batches[1]) };
            Matrix { transposed, row, batch: [outer, inner] }
        };
        let (a, b) = (matrix(a_transposed, m, k), matrix(b_transposed, k, n));
        let addend = g
            .bool()
            .then(|| g.pick(&[[0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, n.into(), 1], [1, 2, 1, 1]]));
        let function = if g.bool() { g.pick(&ALL) } else { Function::Identity };
        let (alpha, beta) = (g.unit(), g.unit());
        let problem = Problem {
            element,
            m,
            n,
            k,
            batches,
            a,
            b,
            c_row: u64::from(n) + u64::from(g.within(0..=3)),
            addend,
            alpha: 0.5 + g.unit() / 4.0,
            beta: g.unit(),
            activation: Activation::new(function, alpha, beta),
        };
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
        let of_d = addend.map_or(0, |[outer, inner, row, column]| {
            reach(&[(batches[0], outer), (batches[1], inner), (m, row), (n, column)])
        });
        let a_values = values(size(&a, m, k), element);
        let b_values = values(size(&b, k, n), element);
        let d = values(of_d, Element::F32);
        Self { problem, function: (function, alpha, beta), a: a_values, b: b_values, d }
    }

    /// Runs the variant and compares every element of C.
    fn check(&self, variant: &Variant, splits: u32, lab: &mut Lab<'_>) -> Result<(), Failure> {
        let Problem { element, m, n, k, batches, .. } = self.problem;
        let count = batches[0] * batches[1];
        let c_elements = u64::from(count) * u64::from(m) * self.problem.c_row;
        let addend = (!self.d.is_empty()).then_some(self.d.as_slice());
        let workspace = variant.workspace_bytes(&self.problem, splits);
        let operands = Operands {
            a: lab.upload_floats("A", element, &self.a)?,
            b: lab.upload_floats("B", element, &self.b)?,
            c: lab.room("C", c_elements * element.bytes())?,
            addend: lab.upload_optional("D", addend)?,
            workspace: if splits > 1 { lab.room("workspace", workspace)? } else { Buffer::default() },
        };
        let plan = variant.prepare(&self.problem, splits, &operands, &lab.device())?;
        lab.run(plan.product)?;
        if let Some(sum) = plan.sum {
            lab.run(sum)?;
        }
        let unit = match element {
            Element::F32 => 0.0,
            Element::F16 => 2f64.powi(-11),
            Element::BF16 => 2f64.powi(-8),
        };
        for batch in 0..count {
            let at = |strides: [u64; 2]| {
                let (outer, inner) = (u64::from(batch / batches[1]), u64::from(batch % batches[1]));
                outer * strides[0] + inner * strides[1]
            };
            for i in 0..u64::from(m) {
                let first = (u64::from(batch) * u64::from(m) + i) * self.problem.c_row;
                let row = lab.floats(operands.c, element, first, n as usize)?;
                for j in 0..u64::from(n) {
                    let (mut sum, mut size) = (0.0, 0.0);
                    for l in 0..u64::from(k) {
                        let of = |values: &[f32], matrix: &Matrix, y: u64, x: u64| {
                            let [y, x] = if matrix.transposed { [x, y] } else { [y, x] };
                            f64::from(values[(at(matrix.batch) + y * matrix.row + x) as usize])
                        };
                        let term = of(&self.a, &self.problem.a, i, l) * of(&self.b, &self.problem.b, l, j);
                        sum += term;
                        size += term.abs();
                    }
                    let mut y = f64::from(self.problem.alpha) * sum;
                    if let Some([outer, inner, row, column]) = self.problem.addend {
                        let d = self.d[(at([outer, inner]) + i * row + j * column) as usize];
                        y += f64::from(self.problem.beta) * f64::from(d);
                    }
                    let (function, alpha, beta) = self.function;
                    let bound = 2f64.powi(-24) * (f64::from(k) + 8.0) * (size + 1.0) * 4.0;
                    // A threshold that rounding puts an element on the other side of.
                    if function == Function::ThresholdedRelu && (y - f64::from(alpha)).abs() < bound {
                        continue;
                    }
                    let expected = reference(function, alpha.into(), beta.into(), y);
                    let error = (f64::from(row[j as usize]) - expected).abs();
                    let bound =
                        bound + unit * expected.abs() + if element == Element::F16 { 6e-8 } else { 0.0 };
                    if error > bound || error.is_nan() {
                        let (id, got) = (variant.id, row[j as usize]);
                        let place = format!("{id} {splits} [{batch}, {i}, {j}]");
                        let problem = self.problem;
                        return Err(Failure::Wrong(format!("{place}: {got} for {expected}, {problem:?}")));
                    }
                }
            }
        }
        Ok(())
    }
}
