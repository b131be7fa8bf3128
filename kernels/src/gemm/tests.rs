//! Products on the emulator against sums in f64, and what is refused.

use super::*;
use crate::activation::tests::{ALL, reference};
use crate::testing::{DEVICE, Draw, Room, rounded};

/// A drawn problem with its operands on the host.
struct Case {
    problem: Problem,
    function: (crate::activation::Function, f32, f32),
    a: Vec<f32>,
    b: Vec<f32>,
    d: Vec<f32>,
}

/// Extents on the edges of tiles and steps, and others.
fn extent(g: &mut Draw, edges: &[u32]) -> u32 {
    if g.chance() { g.pick(edges) } else { g.int(1, 70) }
}

impl Case {
    fn draw(g: &mut Draw, variant: &Variant) -> Self {
        let edges: &[u32] =
            if variant.tile == 128 { &[1, 7, 8, 127, 128, 129, 130] } else { &[1, 8, 63, 64, 65, 97] };
        let [m, n] = [extent(g, edges), extent(g, edges)];
        let k = extent(g, &[1, 7, 8, 9, 16, 31, 32, 33, 40, 64, 95]);
        let batches = if g.chance() { [1, 1] } else { [g.int(1, 2), g.int(1, 3)] };
        let element = variant.element;
        let [a_transposed, b_transposed] = variant.layout.unwrap_or_else(|| [g.chance(), g.chance()]);
        let piece = if variant.layout.is_some() { 8u64 } else { 1 };
        let mut matrix = |transposed: bool, rows: u32, columns: u32| {
            let [rows, columns] = if transposed { [columns, rows] } else { [rows, columns] };
            let row = (u64::from(columns) + u64::from(g.int(0, 5))).next_multiple_of(piece);
            let inner = if g.chance() { 0 } else { u64::from(rows) * row };
            let outer = if g.chance() { 0 } else { u64::from(rows) * row * u64::from(batches[1]) };
            Matrix { transposed, row, batch: [outer, inner] }
        };
        let (a, b) = (matrix(a_transposed, m, k), matrix(b_transposed, k, n));
        let addend = g
            .chance()
            .then(|| g.pick(&[[0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, n.into(), 1], [1, 2, 1, 1]]));
        let function = if g.chance() { g.pick(&ALL) } else { crate::activation::Function::Identity };
        let (alpha, beta) = (g.float(), g.float());
        let problem = Problem {
            element,
            m,
            n,
            k,
            batches,
            a,
            b,
            c_row: u64::from(n) + u64::from(g.int(0, 3)),
            addend,
            alpha: 0.5 + g.float() / 4.0,
            beta: g.float(),
            activation: Activation::new(function, alpha, beta),
        };
        let mut values = |count: u64, element| -> Vec<f32> {
            g.floats(count as usize).into_iter().map(|value| rounded(element, value)).collect()
        };
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
    fn check(&self, variant: &Variant, splits: u32) {
        let Problem { element, m, n, k, batches, .. } = self.problem;
        let room = Room::new();
        let count = batches[0] * batches[1];
        let c_elements = u64::from(count) * u64::from(m) * self.problem.c_row;
        let operands = Operands {
            a: room.upload("A", element, &self.a),
            b: room.upload("B", element, &self.b),
            c: room.empty("C", c_elements * element.bytes()),
            addend: if self.d.is_empty() {
                Buffer::default()
            } else {
                room.upload("D", Element::F32, &self.d)
            },
            workspace: if splits > 1 {
                room.empty("workspace", variant.workspace_bytes(&self.problem, splits))
            } else {
                Buffer::default()
            },
        };
        let plan = variant.prepare(&self.problem, splits, &operands, &DEVICE).expect("a launch");
        room.run(&plan.product);
        if let Some(sum) = &plan.sum {
            room.run(sum);
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
                let row = room.read(operands.c, element, first, n as usize);
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
                    if function == crate::activation::Function::ThresholdedRelu
                        && (y - f64::from(alpha)).abs() < bound
                    {
                        continue;
                    }
                    let expected = reference(function, alpha.into(), beta.into(), y);
                    let error = (f64::from(row[j as usize]) - expected).abs();
                    let bound =
                        bound + unit * expected.abs() + if element == Element::F16 { 6e-8 } else { 0.0 };
                    assert!(
                        error <= bound,
                        "{} [{batch}, {i}, {j}]: {} for {expected}, {:?}",
                        variant.id,
                        row[j as usize],
                        self.problem
                    );
                }
            }
        }
    }
}

fn check_family(seed: u64, ids: &[&str], cases: u32) {
    let mut g = Draw::new(seed);
    for _ in 0..cases {
        let variant = named(g.pick(ids)).expect("a variant");
        let splits = g.pick(&[1, 1, 2, 3]);
        Case::draw(&mut g, variant).check(variant, splits);
    }
}

#[test]
fn scalar_products_in_small_tiles() {
    check_family(1, &["simt_64_f32", "simt_64_f16", "simt_64_bf16"], 40);
}

#[test]
fn scalar_products_in_large_tiles() {
    check_family(2, &["simt_128_f32"], 12);
}

#[test]
fn tensor_products_of_f16() {
    check_family(3, &["tensor_f16_nn", "tensor_f16_nt", "tensor_f16_tn", "tensor_f16_tt"], 24);
}

#[test]
fn tensor_products_of_bf16() {
    check_family(4, &["tensor_bf16_nn", "tensor_bf16_nt", "tensor_bf16_tn", "tensor_bf16_tt"], 24);
}

fn plain(element: Element, m: u32, n: u32, k: u32) -> Problem {
    let matrix = |columns: u32| Matrix { transposed: false, row: columns.into(), batch: [0, 0] };
    Problem {
        element,
        m,
        n,
        k,
        batches: [1, 1],
        a: matrix(k),
        b: matrix(n),
        c_row: n.into(),
        addend: None,
        alpha: 1.0,
        beta: 0.0,
        activation: Activation::IDENTITY,
    }
}

#[test]
fn variants_refuse_what_they_do_not_compute() {
    let simt = named("simt_64_f32").expect("a variant");
    let tensor = named("tensor_f16_nn").expect("a variant");
    assert_eq!(named("simt_32_f32").err(), Some(Reject::UnknownVariant));
    let f16 = plain(Element::F16, 64, 64, 64);
    assert_eq!(simt.accepts(&f16, &DEVICE), Err(Reject::ElementType { operand: "A" }));
    assert_eq!(tensor.accepts(&f16, &DEVICE), Ok(()));
    let turing = Device { capability: 75, ..DEVICE };
    assert_eq!(tensor.accepts(&f16, &turing), Err(Reject::Capability { needed: 80, got: 75 }));
    let odd = plain(Element::F16, 64, 64, 65);
    assert_eq!(tensor.accepts(&odd, &DEVICE), Err(Reject::Multiple { name: "A's rows", got: 65, of: 8 }));
    let turned = Problem { b: Matrix { transposed: true, ..f16.b }, ..f16 };
    assert_eq!(tensor.accepts(&turned, &DEVICE), Err(Reject::Unsupported { what: "this layout" }));

    let f32 = plain(Element::F32, 64, 64, 64);
    let buffer = |address, bytes| Buffer { address, bytes };
    let whole = Operands {
        a: buffer(1 << 20, 1 << 14),
        b: buffer(2 << 20, 1 << 14),
        c: buffer(3 << 20, 1 << 14),
        ..Operands::default()
    };
    assert!(simt.prepare(&f32, 1, &whole, &DEVICE).is_ok());
    let refused = |operands: &Operands, splits| simt.prepare(&f32, splits, operands, &DEVICE).err();
    let short = Operands { b: buffer(2 << 20, (1 << 14) - 4), ..whole };
    assert_eq!(
        refused(&short, 1),
        Some(Reject::Length { operand: "B", needed: 1 << 14, got: (1 << 14) - 4 })
    );
    let crooked = Operands { c: buffer((3 << 20) + 2, 1 << 14), ..whole };
    assert!(matches!(refused(&crooked, 1), Some(Reject::Alignment { operand: "C", .. })));
    assert_eq!(refused(&whole, 2), Some(Reject::Absent { operand: "workspace" }));
    let huge = plain(Element::F32, u32::MAX, u32::MAX, u32::MAX);
    assert!(simt.prepare(&huge, 1, &whole, &DEVICE).is_err());
    let overlapping = Problem { a: Matrix { row: 63, ..f32.a }, ..f32 };
    assert!(matches!(simt.prepare(&overlapping, 1, &whole, &DEVICE).err(), Some(Reject::Unsupported { .. })));
}

#[test]
fn the_choice_fills_the_device() {
    let id = |problem: &Problem| choose(problem, &DEVICE).map(|(variant, splits)| (variant.id, splits));
    assert_eq!(id(&plain(Element::F16, 4096, 4096, 4096)), Ok(("tensor_f16_nn", 1)));
    assert_eq!(id(&plain(Element::F16, 4096, 4096, 4095)), Ok(("simt_64_f16", 1)));
    assert_eq!(id(&plain(Element::F32, 4096, 4096, 4096)), Ok(("simt_128_f32", 1)));
    assert_eq!(id(&plain(Element::F32, 64, 64, 4096)), Ok(("simt_64_f32", 16)));
    assert_eq!(id(&plain(Element::F32, 64, 64, 32)), Ok(("simt_64_f32", 1)));
}

#[test]
fn ids_are_unique() {
    for (i, variant) in VARIANTS.iter().enumerate() {
        assert!(VARIANTS[..i].iter().all(|other| other.id != variant.id), "{}", variant.id);
    }
}
