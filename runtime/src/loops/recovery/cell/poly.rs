//! Expressions of one gate's width in a normal form, so that cells that are spelled differently become equal.
//!
//! An expression is a sum of matrix products and of monomials:
//! `Σ operand·M  +  Σ factor · atom · atom …`. Factors are numbers or vectors; a monomial without atoms is the
//! bias. Sums are merged, products of sums are multiplied out, and `1 / (1 + e^−x)` is `σ(x)`, `2σ(2x) − 1` is
//! `tanh x`. A sum with matrix products inside a product stays whole, as one atom.

use crate::ops::recurrence::{Activation, Function};
use std::collections::{BTreeMap, HashMap};

/// Monomials of one expression; beyond it, the cell is none of those looked for.
const MOST_MONOMIALS: usize = 24;
/// Atoms of one monomial.
const MOST_ATOMS: usize = 8;

/// A number by its bits, so that it can be compared and hashed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Number(u64);

impl Number {
    pub(super) fn of(value: f64) -> Self {
        // Both zeros are one.
        Self((value + 0.0).to_bits())
    }

    pub(super) fn value(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// What a monomial is multiplied by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Factor {
    One(Number),
    /// One number for each unit.
    Each(Vec<Number>),
}

impl Factor {
    pub(super) fn number(value: f64) -> Self {
        Self::One(Number::of(value))
    }

    pub(super) fn each(values: &[f64]) -> Self {
        match values {
            [first, rest @ ..] if rest.iter().all(|v| v == first) => Self::number(*first),
            _ => Self::Each(values.iter().map(|&v| Number::of(v)).collect()),
        }
    }

    /// The number of unit `unit`.
    pub(super) fn at(&self, unit: usize) -> f64 {
        match self {
            Self::One(n) => n.value(),
            Self::Each(all) => all.get(unit).map_or(0.0, |n| n.value()),
        }
    }

    pub(super) fn is(&self, value: f64) -> bool {
        *self == Self::number(value)
    }

    fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        match (self, other) {
            (Self::One(a), Self::One(b)) => Self::number(f(a.value(), b.value())),
            (Self::Each(a), _) | (_, Self::Each(a)) => {
                let values: Vec<f64> = (0..a.len()).map(|u| f(self.at(u), other.at(u))).collect();
                Self::each(&values)
            }
        }
    }
}

/// Place of an expression among those known.
pub(super) type Id = usize;

/// What monomials are made of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Atom {
    /// State `0` before the step.
    State(usize),
    /// Columns of leaf `0` that are a gate wide, the `1`-th of them.
    Leaf(usize, usize),
    /// A function of an expression: the activation's number, the expression.
    Function(usize, Id),
    Exponential(Id),
    Inverse(Id),
    Sum(Id),
}

/// The left operand of a matrix product.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Operand {
    /// All columns of a leaf.
    Leaf(usize),
    /// An expression.
    Of(Id),
}

/// A part of a constant matrix, `rows` by one gate's width, times `scale`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Matrix {
    /// Place of the tensor among those known.
    pub(super) tensor: usize,
    pub(super) row: usize,
    pub(super) rows: usize,
    pub(super) column: usize,
    pub(super) transposed: bool,
    pub(super) scale: Number,
}

/// See the module's documentation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(super) struct Poly {
    pub(super) products: Vec<(Operand, Matrix)>,
    pub(super) monomials: BTreeMap<Vec<Atom>, Factor>,
}

impl Poly {
    pub(super) fn constant(factor: Factor) -> Self {
        let mut poly = Self::default();
        poly.insert(Vec::new(), factor);
        poly
    }

    pub(super) fn atom(atom: Atom) -> Self {
        let mut poly = Self::default();
        poly.insert(vec![atom], Factor::number(1.0));
        poly
    }

    /// The factor that it is, when it is nothing else.
    pub(super) fn as_constant(&self) -> Option<Factor> {
        match (self.products.len(), self.monomials.len()) {
            (0, 0) => Some(Factor::number(0.0)),
            (0, 1) => self.monomials.get(&Vec::new()).cloned(),
            _ => None,
        }
    }

    /// The only monomial, when it is nothing else.
    pub(super) fn as_monomial(&self) -> Option<(&[Atom], &Factor)> {
        match (self.products.len(), self.monomials.len()) {
            (0, 1) => self.monomials.iter().next().map(|(a, f)| (a.as_slice(), f)),
            _ => None,
        }
    }

    fn insert(&mut self, atoms: Vec<Atom>, factor: Factor) {
        let sum = match self.monomials.get(&atoms) {
            Some(there) => there.zip(&factor, |a, b| a + b),
            None => factor,
        };
        if sum.is(0.0) {
            self.monomials.remove(&atoms);
        } else {
            self.monomials.insert(atoms, sum);
        }
    }
}

/// All expressions of a cell, each once.
#[derive(Default)]
pub(super) struct Polys {
    all: Vec<Poly>,
    known: HashMap<Poly, Id>,
    functions: Vec<Activation>,
}

impl Polys {
    pub(super) fn id(&mut self, poly: Poly) -> Id {
        if let Some(&id) = self.known.get(&poly) {
            return id;
        }
        self.all.push(poly.clone());
        self.known.insert(poly, self.all.len() - 1);
        self.all.len() - 1
    }

    pub(super) fn get(&self, id: Id) -> &Poly {
        &self.all[id]
    }

    pub(super) fn function(&self, number: usize) -> Activation {
        self.functions[number]
    }

    pub(super) fn add(&mut self, a: &Poly, b: &Poly) -> Option<Poly> {
        let mut sum = a.clone();
        sum.products.extend_from_slice(&b.products);
        sum.products.sort();
        for (atoms, factor) in &b.monomials {
            sum.insert(atoms.clone(), factor.clone());
        }
        (sum.monomials.len() <= MOST_MONOMIALS).then(|| self.normal(sum))
    }

    /// `2σ(2x) − 1` is `tanh x`.
    fn normal(&mut self, poly: Poly) -> Poly {
        let minus_one = poly.monomials.get(&Vec::new()).is_some_and(|f| f.is(-1.0));
        if poly.products.is_empty() && poly.monomials.len() == 2 && minus_one {
            let other = poly.monomials.iter().find(|(atoms, _)| !atoms.is_empty());
            if let Some((atoms, factor)) = other
                && let [Atom::Function(f, of)] = atoms[..]
                && factor.is(2.0)
                && self.functions[f].function == Function::Sigmoid
            {
                let half = self.scale(&self.all[of].clone(), &Factor::number(0.5));
                return self.apply(plain(Function::Tanh), &half);
            }
        }
        poly
    }

    pub(super) fn scale(&mut self, a: &Poly, by: &Factor) -> Poly {
        if by.is(0.0) {
            return Poly::default();
        }
        let mut out = Poly::default();
        match by {
            Factor::One(n) => {
                for &(operand, matrix) in &a.products {
                    let scale = Number::of(matrix.scale.value() * n.value());
                    out.products.push((operand, Matrix { scale, ..matrix }));
                }
                out.products.sort();
            }
            Factor::Each(_) if a.products.is_empty() => {}
            Factor::Each(_) => {
                let id = self.id(a.clone());
                out.insert(vec![Atom::Sum(id)], by.clone());
                return out;
            }
        }
        for (atoms, factor) in &a.monomials {
            out.insert(atoms.clone(), factor.zip(by, |a, b| a * b));
        }
        self.normal(out)
    }

    pub(super) fn multiply(&mut self, a: &Poly, b: &Poly) -> Option<Poly> {
        if let Some(factor) = a.as_constant() {
            return Some(self.scale(b, &factor));
        }
        if let Some(factor) = b.as_constant() {
            return Some(self.scale(a, &factor));
        }
        let (a, b) = (self.whole(a), self.whole(b));
        let mut out = Poly::default();
        for (x, f) in &a.monomials {
            for (y, g) in &b.monomials {
                let mut atoms = [x.as_slice(), y].concat();
                atoms.sort_unstable();
                if atoms.len() > MOST_ATOMS {
                    return None;
                }
                out.insert(atoms, f.zip(g, |f, g| f * g));
            }
        }
        (out.monomials.len() <= MOST_MONOMIALS).then_some(out)
    }

    /// A sum with matrix products as one atom.
    fn whole(&mut self, a: &Poly) -> Poly {
        if a.products.is_empty() { a.clone() } else { Poly::atom(Atom::Sum(self.id(a.clone()))) }
    }

    pub(super) fn apply(&mut self, activation: Activation, a: &Poly) -> Poly {
        let number = self.functions.iter().position(|f| *f == activation).unwrap_or_else(|| {
            self.functions.push(activation);
            self.functions.len() - 1
        });
        let of = self.id(a.clone());
        Poly::atom(Atom::Function(number, of))
    }

    pub(super) fn exponential(&mut self, a: &Poly) -> Poly {
        Poly::atom(Atom::Exponential(self.id(a.clone())))
    }

    pub(super) fn inverse(&mut self, a: &Poly) -> Option<Poly> {
        if let Some(factor) = a.as_constant() {
            return Some(Poly::constant(factor.zip(&factor, |a, _| 1.0 / a)));
        }
        let one = a.monomials.get(&Vec::new()).is_some_and(|f| f.is(1.0));
        if a.products.is_empty() && a.monomials.len() == 2 && one {
            let other = a.monomials.iter().find(|(atoms, _)| !atoms.is_empty());
            if let Some((atoms, factor)) = other
                && let [Atom::Exponential(of)] = atoms[..]
                && factor.is(1.0)
            {
                let negative = self.scale(&self.all[of].clone(), &Factor::number(-1.0));
                return Some(self.apply(plain(Function::Sigmoid), &negative));
            }
        }
        Some(Poly::atom(Atom::Inverse(self.id(a.clone()))))
    }
}

/// A function without parameters.
pub(super) fn plain(function: Function) -> Activation {
    Activation { function, alpha: 0.0, beta: 0.0 }
}
