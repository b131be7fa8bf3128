//! Which cell the expressions of a step are: LSTM, GRU or the plain one, up to the order of gates and to how sums
//! and products are spelled.

use super::poly::{Atom, Factor, Id, Matrix, Operand, Poly, Polys};
use crate::ops::recurrence::Activation;

/// The sum that a gate's function is applied to: `Σ leaf·W + h·R + b + p ⊙ c`.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate {
    pub(super) input: Vec<(usize, Matrix)>,
    pub(super) recurrent: Vec<Matrix>,
    pub(super) bias: Option<Factor>,
    /// Bias inside a product with the reset gate.
    pub(super) recurrent_bias: Option<Factor>,
    pub(super) peephole: Option<Factor>,
    /// What everything is multiplied by.
    pub(super) sign: f64,
}

/// A recognised cell: gates in the operator's order.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    Lstm { hidden: usize, cell: usize, gates: [Gate; 4], activations: [Activation; 3], input_forget: bool },
    Gru { gates: [Gate; 3], activations: [Activation; 2], linear_before_reset: bool },
    Rnn { gate: Gate, activation: Activation },
}

/// The cell whose states become `next`.
pub(super) fn recognise(polys: &mut Polys, next: &[Id]) -> Option<Cell> {
    match *next {
        [h] => rnn(polys, h).or_else(|| gru(polys, h)),
        [a, b] => lstm(polys, [a, b], 0, 1).or_else(|| lstm(polys, [b, a], 1, 0)),
        _ => None,
    }
}

/// The only function of an expression that a monomial of one atom is.
fn function(polys: &Polys, atom: Atom) -> Option<(Activation, Id)> {
    match atom {
        Atom::Function(f, of) => Some((polys.function(f), of)),
        _ => None,
    }
}

/// The parts of a gate's sum: products with leaves and with the expression `recurrent`, the bias, and a multiple
/// of the state `peeped`.
fn gate(polys: &Polys, sum: &Poly, recurrent: Id, peeped: Option<&Poly>) -> Option<Gate> {
    let mut gate = Gate { sign: 1.0, ..Gate::default() };
    for &(operand, matrix) in &sum.products {
        match operand {
            Operand::Leaf(leaf) => gate.input.push((leaf, matrix)),
            Operand::Of(id) if id == recurrent => gate.recurrent.push(matrix),
            Operand::Of(_) => return None,
        }
    }
    let mut rest = sum.monomials.clone();
    gate.bias = rest.remove(&Vec::new());
    if let Some(peeped) = peeped.filter(|_| !rest.is_empty()) {
        // `p ⊙ c` has the monomials of `c`, each times `p`.
        let (atoms, one) = peeped.monomials.iter().next()?;
        if !one.is(1.0) || !peeped.products.is_empty() {
            return None;
        }
        let factor = rest.get(atoms)?.clone();
        let whole: Poly = scaled(polys, peeped, &factor)?;
        if whole.monomials != rest {
            return None;
        }
        gate.peephole = Some(factor);
        rest.clear();
    }
    rest.is_empty().then_some(gate)
}

fn scaled(polys: &Polys, a: &Poly, by: &Factor) -> Option<Poly> {
    let _ = polys;
    let mut out = Poly::default();
    for (atoms, factor) in &a.monomials {
        // Only whole multiples of a sum whose factors are ±1 or numbers are asked for.
        let product = match (factor, by) {
            (Factor::One(n), by) => match by {
                Factor::One(m) => Factor::number(n.value() * m.value()),
                Factor::Each(all) => {
                    Factor::each(&all.iter().map(|m| n.value() * m.value()).collect::<Vec<_>>())
                }
            },
            _ => return None,
        };
        out.monomials.insert(atoms.clone(), product);
    }
    Some(out)
}

fn state(polys: &mut Polys, at: usize) -> Id {
    polys.id(Poly::atom(Atom::State(at)))
}

/// `h' = f(W·x + R·h + b)`.
fn rnn(polys: &mut Polys, next: Id) -> Option<Cell> {
    let h = state(polys, 0);
    let (atoms, factor) = polys.get(next).as_monomial()?;
    let (&[atom], true) = (atoms, factor.is(1.0)) else { return None };
    let (activation, sum) = function(polys, atom)?;
    let gate = gate(polys, polys.get(sum), h, None)?;
    (!gate.recurrent.is_empty()).then_some(Cell::Rnn { gate, activation })
}

/// Monomials of an expression without matrix products.
fn monomials(poly: &Poly) -> Option<Vec<(Vec<Atom>, Factor)>> {
    poly.products.is_empty().then(|| poly.monomials.iter().map(|(a, f)| (a.clone(), f.clone())).collect())
}

/// `c' = f ⊙ c + i ⊙ g`, `h' = o ⊙ h(c')`.
fn lstm(polys: &mut Polys, [next_h, next_c]: [Id; 2], hidden: usize, cell: usize) -> Option<Cell> {
    let h = state(polys, hidden);
    let terms = monomials(polys.get(next_c))?;
    let c = Atom::State(cell);
    let (mut forget, mut made, mut coupled, mut kept) = (None, None, None, false);
    for (atoms, factor) in &terms {
        let functions: Vec<Atom> = atoms.iter().copied().filter(|a| *a != c).collect();
        let with_state = atoms.len() - functions.len();
        match (with_state, &functions[..]) {
            (1, [f]) if factor.is(1.0) && forget.is_none() => forget = Some(*f),
            (1, [i]) if factor.is(-1.0) && coupled.is_none() => coupled = Some(*i),
            (1, []) if factor.is(1.0) && !kept => kept = true,
            (0, [a, b]) if factor.is(1.0) && made.is_none() => made = Some([*a, *b]),
            _ => return None,
        }
    }
    let [a, b] = made?;
    let input_forget = match (forget, coupled, kept) {
        (Some(_), None, false) => false,
        (None, Some(i), true) if i == a || i == b => true,
        _ => return None,
    };
    let (atoms, factor) = polys.get(next_h).as_monomial()?;
    let (&[x, y], true) = (atoms, factor.is(1.0)) else { return None };
    let (o, shown) = match (function(polys, x)?, function(polys, y)?) {
        (o, shown) if shown.1 == next_c => (o, shown),
        (shown, o) if shown.1 == next_c => (o, shown),
        _ => return None,
    };
    let peeped = Poly::atom(c);
    let after = polys.get(next_c).clone();
    // Which of the two factors is the input gate: the one with the gates' function, and no peephole on the other.
    for (i, g) in [(a, b), (b, a)] {
        if input_forget && Some(i) != coupled {
            continue;
        }
        let (Some((i_function, i_sum)), Some((g_function, g_sum))) = (function(polys, i), function(polys, g))
        else {
            continue;
        };
        if i_function != o.0 {
            continue;
        }
        let (Some(input), Some(candidate), Some(output)) = (
            gate(polys, polys.get(i_sum), h, Some(&peeped)),
            gate(polys, polys.get(g_sum), h, None),
            gate(polys, polys.get(o.1), h, Some(&after)),
        ) else {
            continue;
        };
        let forget = match forget {
            None => Gate { sign: 1.0, ..Gate::default() },
            Some(f) => {
                let Some((function, sum)) = function(polys, f) else { continue };
                let Some(gate) = gate(polys, polys.get(sum), h, Some(&peeped)) else { continue };
                if function != i_function {
                    continue;
                }
                gate
            }
        };
        let gates = [input, output, forget, candidate];
        if gates.iter().all(|g| g.recurrent.is_empty()) {
            continue;
        }
        let activations = [i_function, g_function, shown.0];
        return Some(Cell::Lstm { hidden, cell, gates, activations, input_forget });
    }
    None
}

/// `h' = z ⊙ h + (1 − z) ⊙ n`, or with z and 1 − z in each other's place.
fn gru(polys: &mut Polys, next: Id) -> Option<Cell> {
    let h = Atom::State(0);
    let h_id = state(polys, 0);
    let terms = monomials(polys.get(next))?;
    if terms.len() != 3 {
        return None;
    }
    let find = |with: bool, count: usize, factor: f64| {
        terms.iter().find(|(atoms, f)| atoms.contains(&h) == with && atoms.len() == count && f.is(factor))
    };
    let other = |atoms: &[Atom], not: Atom| match *atoms {
        [a, b] if a == not => Some(b),
        [a, b] if b == not => Some(a),
        _ => None,
    };
    // z·h + n − z·n, or h − z·h + z·n.
    let (z, n, sign) = if let (Some(kept), Some(new), Some(gone)) =
        (find(true, 2, 1.0), find(false, 1, 1.0), find(false, 2, -1.0))
    {
        let z = other(&kept.0, h)?;
        (z, new.0[0], 1.0).filter_pair(other(&gone.0, z) == Some(new.0[0]))?
    } else if let (Some(_), Some(gone), Some(new)) =
        (find(true, 1, 1.0), find(true, 2, -1.0), find(false, 2, 1.0))
    {
        let z = other(&gone.0, h)?;
        (z, other(&new.0, z)?, -1.0)
    } else {
        return None;
    };
    // z and n may change places where both multiply: the one with the reset inside is n.
    let (f, z_sum) = function(polys, z)?;
    let (g, n_sum) = function(polys, n)?;
    // 1 − z is z of the negative sum for the logistic function alone.
    if sign < 0.0 && f.function != crate::ops::recurrence::Function::Sigmoid {
        return None;
    }
    let update = Gate { sign, ..gate(polys, polys.get(z_sum), h_id, None)? };
    let sum = polys.get(n_sum).clone();
    let (candidate, reset, linear_before_reset) = candidate(polys, &sum, h_id)?;
    let (r, r_sum) = function(polys, reset)?;
    if r != f {
        return None;
    }
    let reset = gate(polys, polys.get(r_sum), h_id, None)?;
    Some(Cell::Gru { gates: [update, reset, candidate], activations: [f, g], linear_before_reset })
}

trait FilterPair: Sized {
    fn filter_pair(self, keep: bool) -> Option<Self>;
}

impl<T> FilterPair for T {
    fn filter_pair(self, keep: bool) -> Option<Self> {
        keep.then_some(self)
    }
}

/// The candidate's gate, the reset gate's atom, and whether the reset multiplies the product instead of the state.
fn candidate(polys: &Polys, sum: &Poly, h: Id) -> Option<(Gate, Atom, bool)> {
    let mut plain = sum.clone();
    let inner = sum.monomials.iter().find(|(atoms, _)| !atoms.is_empty());
    if let Some((atoms, factor)) = inner {
        // x·W + b + r ⊙ (h·R + b')
        let (&[x, y], true) = (atoms.as_slice(), factor.is(1.0)) else { return None };
        let ((Atom::Sum(of), reset) | (reset, Atom::Sum(of))) = (x, y) else { return None };
        plain.monomials.remove(atoms);
        let mut made = gate(polys, &plain, usize::MAX, None)?;
        let recurrent = gate(polys, polys.get(of), h, None)?;
        if !recurrent.input.is_empty() {
            return None;
        }
        made.recurrent = recurrent.recurrent;
        made.recurrent_bias = recurrent.bias;
        return Some((made, reset, true));
    }
    // x·W + b + (r ⊙ h)·R
    let of = sum.products.iter().find_map(|(o, _)| match o {
        Operand::Of(id) if *id != h => Some(*id),
        _ => None,
    })?;
    let (atoms, factor) = polys.get(of).as_monomial()?;
    let (&[x, y], true) = (atoms, factor.is(1.0)) else { return None };
    let ((Atom::State(0), reset) | (reset, Atom::State(0))) = (x, y) else { return None };
    Some((gate(polys, sum, of, None)?, reset, false))
}
