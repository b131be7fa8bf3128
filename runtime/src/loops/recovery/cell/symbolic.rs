//! A step's body as expressions: what each output is in terms of the step's inputs and states.
//!
//! A value of the body is a row of features for each element of the batch, along its last axis or, where matrices
//! stand on the left, along the one before. Its columns are pieces: expressions
//! of a gate's width, or leaves, which are what a sequence gives. Operators on constants of one row or one number,
//! products with constant matrices, elementwise functions, and joins and cuts at the borders of gates are
//! followed; a value made by anything else is unknown, and the cell with it where it matters.

use super::poly::{Atom, Factor, Id, Matrix, Number, Operand, Poly, Polys};
use crate::graph::fact::{Facts, normal_axis};
use crate::graph::{Dim, Fact, Graph, TensorFact, ValueId};
use crate::ops::recurrence::{Activation, Function};
use crate::tensor::Tensor;

/// A column range of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    Leaf(usize),
    Of(Id),
}

/// What is known of a value of the body.
#[derive(Clone, Debug)]
pub(super) enum Known {
    Row(Vec<Piece>),
    /// A row cut into gates along an axis in front of the features.
    Stacked(Vec<Piece>),
    Constant(Tensor),
}

/// See the module's documentation.
pub(super) struct Symbolic {
    pub(super) polys: Polys,
    /// Constants that matrix products take parts of.
    pub(super) tensors: Vec<Tensor>,
    /// Features of each leaf.
    pub(super) widths: Vec<usize>,
    /// Width of a gate.
    pub(super) hidden: usize,
    /// Whether features lie along the axis before the last.
    pub(super) columns: bool,
    /// The batch, without extents of 1.
    pub(super) batch: Vec<Dim>,
}

/// A value of the outer graph for an input of the body: what a sequence's element is.
pub(super) enum Input {
    State,
    /// A leaf, or what is already known to be a product of one.
    Row(Vec<Piece>),
    Other,
}

/// The axis of features of a value of rank `rank`.
pub(super) fn feature_axis(rank: usize, columns: bool) -> Option<usize> {
    rank.checked_sub(1 + usize::from(columns))
}

/// The extents other than 1 beside the features, and the number of features.
pub(super) fn batch_of(fact: &TensorFact, columns: bool) -> Option<(Vec<Dim>, usize)> {
    let mut batch = fact.shape.clone()?;
    let width = batch.remove(feature_axis(batch.len(), columns)?).known()?;
    batch.retain(|d| *d != Dim::Known(1));
    Some((batch, width))
}

impl Symbolic {
    /// For states of the form of `state`.
    pub(super) fn new(state: &TensorFact, columns: bool) -> Option<Self> {
        let (batch, hidden) = batch_of(state, columns)?;
        if hidden == 0 || batch.contains(&Dim::Unknown) {
            return None;
        }
        let (polys, tensors, widths) = (Polys::default(), Vec::new(), Vec::new());
        Some(Self { polys, tensors, widths, hidden, columns, batch })
    }

    pub(super) fn leaf(&mut self, width: usize) -> usize {
        self.widths.push(width);
        self.widths.len() - 1
    }

    /// The expressions of the body's outputs; `None` where one is not known.
    pub(super) fn run(&mut self, body: &Graph, facts: &[Option<Fact>], inputs: &[Input]) -> Vec<Option<Id>> {
        let mut known: Vec<Option<Known>> =
            body.values.iter().map(|v| v.constant.clone().map(Known::Constant)).collect();
        let mut states = 0;
        for (id, input) in body.inputs.iter().zip(inputs) {
            let row = match input {
                Input::State => {
                    states += 1;
                    Some(vec![Piece::Of(self.polys.id(Poly::atom(Atom::State(states - 1))))])
                }
                Input::Row(row) => Some(row.clone()),
                Input::Other => None,
            };
            known[id.index()] = row.filter(|_| self.fits(facts[id.index()].as_ref())).map(Known::Row);
        }
        for node in &body.nodes {
            for (output, id) in node.outputs.iter().enumerate() {
                let Some(id) = *id else { continue };
                known[id.index()] = if self.fits(facts[id.index()].as_ref()) {
                    self.node(facts, node, output, &known)
                } else {
                    self.stacked(facts, node, output, &known)
                };
            }
        }
        body.outputs
            .iter()
            .map(|id| match known[id.index()].as_ref()? {
                Known::Row(row) => match row[..] {
                    [Piece::Of(id)] => Some(id),
                    _ => None,
                },
                Known::Constant(_) | Known::Stacked(_) => None,
            })
            .collect()
    }

    /// Whether a value has the form of a state.
    pub(super) fn holds_state(&self, fact: &TensorFact) -> bool {
        batch_of(fact, self.columns).is_some_and(|(batch, width)| batch == self.batch && width == self.hidden)
    }

    /// Whether a value has the states' batch.
    fn fits(&self, fact: Option<&Fact>) -> bool {
        let fact = fact.and_then(Fact::tensor);
        fact.and_then(|f| batch_of(f, self.columns)).is_some_and(|(batch, _)| batch == self.batch)
    }

    fn node(
        &mut self,
        facts: &[Option<Fact>],
        node: &crate::graph::Node,
        output: usize,
        known: &[Option<Known>],
    ) -> Option<Known> {
        let fact = |id: &Option<ValueId>| id.and_then(|id| facts[id.index()].as_ref());
        let input =
            |i: usize| node.inputs.get(i).copied().flatten().and_then(|id| known[id.index()].as_ref());
        if let Some(activation) = node.op.activation() {
            return self.map(input(0)?, |polys, p| Some(polys.apply(activation, p)));
        }
        if let Some(product) = node.op.product() {
            let rank = |i: usize| fact(node.inputs.get(i)?)?.tensor()?.rank();
            let alpha = product.alpha.into();
            let row = match (input(0)?, input(1)?) {
                (row, Known::Constant(matrix)) if !self.columns && !product.transpose_a => {
                    self.product(row, matrix, product.transpose_b, alpha)?
                }
                // The transposed product; a vector is a column on the right of a matrix.
                (Known::Constant(matrix), row) if (self.columns || rank(1)? == 1) && !product.transpose_b => {
                    self.product(row, matrix, !product.transpose_a, alpha)?
                }
                _ => return None,
            };
            return match node.inputs.get(2).copied().flatten() {
                Some(_) if product.beta != 0.0 => {
                    let scaled = if product.beta == 1.0 {
                        input(2)?.clone()
                    } else {
                        let by = Known::Constant(Tensor::scalar(f64::from(product.beta)));
                        self.zip(input(2)?, &by, Polys::multiply)?
                    };
                    self.zip(&row, &scaled, Polys::add)
                }
                _ => Some(row),
            };
        }
        let given: Vec<Option<&Fact>> = node.inputs.iter().map(fact).collect();
        if let Some(axis) = node.op.joined_axis() {
            let rank = given.first().copied().flatten()?.tensor()?.rank()?;
            if Some(normal_axis(axis, rank).ok()?) != feature_axis(rank, self.columns) {
                return None;
            }
            let mut row = Vec::new();
            for i in 0..node.inputs.len() {
                match input(i)? {
                    Known::Row(pieces) => row.extend_from_slice(pieces),
                    Known::Constant(_) | Known::Stacked(_) => return None,
                }
            }
            return Some(Known::Row(row));
        }
        let made: Vec<Fact> = match node.outputs.iter().map(|id| fact(id).cloned()).collect::<Option<_>>() {
            Some(made) => made,
            None => node.op.infer(Facts(&given)).ok()?,
        };
        if let Some(Known::Stacked(_)) = input(0)
            && node.op.alias_of().is_none()
        {
            return self.cut_stacked(facts, node, output, known);
        }
        if let Some(selection) = node.op.selection(Facts(&given), &made, output) {
            let rank = given.first().copied().flatten()?.tensor()?.rank()?;
            let along = Some(selection.axis) == feature_axis(rank, self.columns);
            if !along || selection.step != 1 || selection.drops_axis {
                return None;
            }
            return self.cut(input(0)?, selection.start, selection.count);
        }
        if node.op.alias_of() == Some(0) {
            // The features stay, and the batch does but for extents of 1. Of columns, one alone keeps its order
            // beside others.
            let form = |f: Option<&Fact>| {
                let t = f?.tensor()?;
                Some((t.dtype, batch_of(t, self.columns)?.1, t.shape.as_ref()?.last()?.clone()))
            };
            let (from, to) = (form(given.first().copied().flatten())?, form(made.first())?);
            let same = from.0 == to.0 && from.1 == to.1 && (!self.columns || from.2 == to.2);
            return match input(0)? {
                Known::Stacked(gates) if gates.len() == 1 && to.1 == self.hidden => {
                    Some(Known::Row(gates.clone()))
                }
                Known::Stacked(_) => None,
                known if same => Some(known.clone()),
                _ => None,
            };
        }
        self.elementwise(node, &input)
    }

    fn elementwise<'k>(
        &mut self,
        node: &crate::graph::Node,
        input: &dyn Fn(usize) -> Option<&'k Known>,
    ) -> Option<Known> {
        let minus = Factor::number(-1.0);
        match node.def.name {
            "Add" => self.zip(input(0)?, input(1)?, Polys::add),
            "Mul" => self.zip(input(0)?, input(1)?, Polys::multiply),
            "Sub" => self.zip(input(0)?, input(1)?, |polys, a, b| {
                let negative = polys.scale(b, &minus);
                polys.add(a, &negative)
            }),
            "Div" => self.zip(input(0)?, input(1)?, |polys, a, b| {
                let inverse = polys.inverse(b)?;
                polys.multiply(a, &inverse)
            }),
            "Sum" => {
                let mut sum = input(0)?.clone();
                for i in 1..node.inputs.len() {
                    sum = self.zip(&sum, input(i)?, Polys::add)?;
                }
                Some(sum)
            }
            "Neg" => self.map(input(0)?, |polys, p| Some(polys.scale(p, &minus))),
            "Reciprocal" => self.map(input(0)?, Polys::inverse),
            "Exp" => self.map(input(0)?, |polys, p| Some(polys.exponential(p))),
            "Clip" => {
                let bound = |i: usize| match input(i)? {
                    Known::Constant(t) => t.to_f64s().filter(|v| v.len() == 1).map(|v| v[0]),
                    Known::Row(_) | Known::Stacked(_) => None,
                };
                if node.inputs.len() == 3 && bound(1) == Some(0.0) && bound(2) == Some(1.0) {
                    let clip = Activation { function: Function::HardSigmoid, alpha: 1.0, beta: 0.0 };
                    return self.map(input(0)?, |polys, p| Some(polys.apply(clip, p)));
                }
                None
            }
            _ => None,
        }
    }

    /// The pieces as expressions.
    pub(super) fn expressions(&mut self, row: &[Piece]) -> Option<Vec<Poly>> {
        let mut out = Vec::new();
        for piece in row {
            match *piece {
                Piece::Of(id) => out.push(self.polys.get(id).clone()),
                Piece::Leaf(leaf) => {
                    let width = self.widths[leaf];
                    if !width.is_multiple_of(self.hidden) {
                        return None;
                    }
                    out.extend((0..width / self.hidden).map(|block| Poly::atom(Atom::Leaf(leaf, block))));
                }
            }
        }
        Some(out)
    }

    fn map(&mut self, value: &Known, f: impl Fn(&mut Polys, &Poly) -> Option<Poly>) -> Option<Known> {
        let Known::Row(row) = value else { return None };
        let mut out = Vec::new();
        for poly in self.expressions(row)? {
            let made = f(&mut self.polys, &poly)?;
            out.push(Piece::Of(self.polys.id(made)));
        }
        Some(Known::Row(out))
    }

    fn zip(
        &mut self,
        a: &Known,
        b: &Known,
        f: impl Fn(&mut Polys, &Poly, &Poly) -> Option<Poly>,
    ) -> Option<Known> {
        let blocks = |s: &mut Self, value: &Known| match value {
            Known::Row(row) => s.expressions(row).map(Some),
            Known::Constant(_) => Some(None),
            Known::Stacked(_) => None,
        };
        let (left, right) = (blocks(self, a)?, blocks(self, b)?);
        let count = left.as_ref().or(right.as_ref())?.len();
        let expand = |s: &Self, value: &Known, blocks: Option<Vec<Poly>>| match (value, blocks) {
            (_, Some(blocks)) => Some(blocks),
            (Known::Constant(t), None) => s.constant(t, count),
            _ => None,
        };
        let (left, right) = (expand(self, a, left)?, expand(self, b, right)?);
        if left.len() != right.len() {
            return None;
        }
        let mut out = Vec::new();
        for (x, y) in left.iter().zip(&right) {
            let made = f(&mut self.polys, x, y)?;
            out.push(Piece::Of(self.polys.id(made)));
        }
        Some(Known::Row(out))
    }

    /// A constant of one number, or of one row of `count` gates.
    fn constant(&self, tensor: &Tensor, count: usize) -> Option<Vec<Poly>> {
        let mut batch = tensor.shape().to_vec();
        let width = match feature_axis(batch.len(), self.columns) {
            None => 1,
            Some(at) => batch.remove(at),
        };
        let rows = batch.iter().product::<usize>();
        if rows != 1 || !tensor.dtype().is_float() {
            return None;
        }
        let values = tensor.to_f64s()?;
        if width == 1 {
            return Some(vec![Poly::constant(Factor::number(values[0])); count]);
        }
        if width != count * self.hidden {
            return None;
        }
        Some(values.chunks(self.hidden).map(|v| Poly::constant(Factor::each(v))).collect())
    }

    /// `row · matrix`, gate by gate.
    pub(super) fn product_of(
        &mut self,
        row: &[Piece],
        matrix: &Tensor,
        transposed: bool,
        alpha: f64,
    ) -> Option<Vec<Piece>> {
        match self.product(&Known::Row(row.to_vec()), matrix, transposed, alpha)? {
            Known::Row(row) => Some(row),
            Known::Constant(_) | Known::Stacked(_) => None,
        }
    }

    /// `row + bias`.
    pub(super) fn sum_of(&mut self, row: &[Piece], bias: &Tensor) -> Option<Vec<Piece>> {
        match self.zip(&Known::Row(row.to_vec()), &Known::Constant(bias.clone()), Polys::add)? {
            Known::Row(row) => Some(row),
            Known::Constant(_) | Known::Stacked(_) => None,
        }
    }

    fn product(&mut self, value: &Known, matrix: &Tensor, transposed: bool, alpha: f64) -> Option<Known> {
        let Known::Row(row) = value else { return None };
        let [a, b] = matrix.shape()[..] else { return None };
        let (rows, columns) = if transposed { (b, a) } else { (a, b) };
        let widths: usize =
            row.iter().map(|p| if let Piece::Leaf(l) = p { self.widths[*l] } else { self.hidden }).sum();
        if rows != widths || !columns.is_multiple_of(self.hidden) || !matrix.dtype().is_float() {
            return None;
        }
        let same = |t: &Tensor| t.bytes().as_ptr() == matrix.bytes().as_ptr() && t.shape() == matrix.shape();
        let tensor = self.tensors.iter().position(same).unwrap_or_else(|| {
            self.tensors.push(matrix.clone());
            self.tensors.len() - 1
        });
        let mut out = Vec::new();
        for block in 0..columns / self.hidden {
            let mut poly = Poly::default();
            let mut first = 0;
            for piece in row {
                let (operand, rows) = match *piece {
                    Piece::Leaf(leaf) => (Operand::Leaf(leaf), self.widths[leaf]),
                    Piece::Of(id) => (Operand::Of(id), self.hidden),
                };
                let part = Matrix {
                    tensor,
                    row: first,
                    rows,
                    column: block * self.hidden,
                    transposed,
                    scale: Number::of(alpha),
                };
                poly.products.push((operand, part));
                first += rows;
            }
            poly.products.sort();
            out.push(Piece::Of(self.polys.id(poly)));
        }
        Some(Known::Row(out))
    }

    fn cut(&mut self, value: &Known, start: usize, count: usize) -> Option<Known> {
        let Known::Row(row) = value else { return None };
        let all = self.blocks(row)?;
        if !start.is_multiple_of(self.hidden) || !count.is_multiple_of(self.hidden) {
            return None;
        }
        let (first, blocks) = (start / self.hidden, count / self.hidden);
        Some(Known::Row(all.get(first..first.checked_add(blocks)?)?.to_vec()))
    }

    /// Elements of `matrix`'s part, `[rows, hidden]`, as numbers.
    pub(super) fn elements(&self, matrix: &Matrix, all: &[f64]) -> Option<Vec<f64>> {
        let [a, b] = self.tensors.get(matrix.tensor)?.shape()[..] else { return None };
        let columns = if matrix.transposed { a } else { b };
        let scale = matrix.scale.value();
        let mut out = Vec::with_capacity(matrix.rows * self.hidden);
        for row in matrix.row..matrix.row + matrix.rows {
            for column in matrix.column..matrix.column + self.hidden {
                let at = if matrix.transposed { column * b + row } else { row * columns + column };
                out.push(scale * all.get(at)?);
            }
        }
        Some(out)
    }
}
