//! Cells in f64, straight from their formulas.

use super::net::Numbers;

/// Which cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Lstm,
    /// With peepholes.
    Peephole,
    /// `f = 1 − i`.
    Coupled,
    /// With `0.2 x + 0.5` cut to [0, 1] for the logistic function.
    HardLstm,
    /// The reset gate on the state.
    Gru,
    /// The reset gate on the product.
    ResetAfter,
    Rnn,
    ReluRnn,
}

impl Kind {
    pub(super) fn gates(self) -> usize {
        match self {
            Self::Lstm | Self::Peephole | Self::Coupled | Self::HardLstm => 4,
            Self::Gru | Self::ResetAfter => 3,
            Self::Rnn | Self::ReluRnn => 1,
        }
    }

    pub(super) fn operator(self) -> &'static str {
        match self.gates() {
            4 => "LSTM",
            3 => "GRU",
            _ => "RNN",
        }
    }

    fn logistic(self, x: f64) -> f64 {
        if self == Self::HardLstm { (0.2 * x + 0.5).clamp(0.0, 1.0) } else { 1.0 / (1.0 + (-x).exp()) }
    }
}

/// Weights of one direction of one layer. Gates of LSTM: i, f, g, o; of GRU: r, z, n. Row `k`, column
/// `gate · hidden + unit`.
#[derive(Clone)]
pub(super) struct Weights {
    pub(super) kind: Kind,
    pub(super) depth: usize,
    pub(super) hidden: usize,
    pub(super) w: Vec<f64>,
    pub(super) r: Vec<f64>,
    pub(super) b: Vec<f64>,
    /// The bias beside the recurrent product.
    pub(super) rb: Vec<f64>,
    /// Peepholes of i, f, o.
    pub(super) p: Vec<f64>,
}

impl Weights {
    pub(super) fn new(kind: Kind, depth: usize, hidden: usize, numbers: &mut Numbers) -> Self {
        let columns = kind.gates() * hidden;
        let mut rounded = |count, scale| -> Vec<f64> {
            numbers.many(count, scale).into_iter().map(|v| f64::from(v as f32)).collect()
        };
        Self {
            kind,
            depth,
            hidden,
            w: rounded(depth * columns, 0.7),
            r: rounded(hidden * columns, 0.7),
            b: rounded(columns, 0.5),
            rb: rounded(columns, 0.5),
            p: rounded(3 * hidden, 0.5),
        }
    }

    fn columns(&self) -> usize {
        self.kind.gates() * self.hidden
    }

    /// One step of one row: `h` and `c` become the next.
    pub(super) fn step(&self, x: &[f64], h: &mut [f64], c: &mut [f64]) {
        let (n, columns) = (self.hidden, self.columns());
        let product = |m: &[f64], v: &[f64], at: usize| -> f64 {
            v.iter().enumerate().map(|(k, v)| v * m[k * columns + at]).sum()
        };
        let s = |x| self.kind.logistic(x);
        let before = h.to_vec();
        let from_x = |g: usize, u: usize| product(&self.w, x, g * n + u) + self.b[g * n + u];
        let from_h = |g: usize, u: usize| product(&self.r, &before, g * n + u) + self.rb[g * n + u];
        let peep = |g: usize, u: usize, c: f64| {
            if self.kind == Kind::Peephole { self.p[g * n + u] * c } else { 0.0 }
        };
        match self.kind.gates() {
            4 => {
                for u in 0..n {
                    let gate = |g: usize| from_x(g, u) + from_h(g, u);
                    let i = s(gate(0) + peep(0, u, c[u]));
                    let f = if self.kind == Kind::Coupled { 1.0 - i } else { s(gate(1) + peep(1, u, c[u])) };
                    c[u] = f * c[u] + i * gate(2).tanh();
                    h[u] = s(gate(3) + peep(2, u, c[u])) * c[u].tanh();
                }
            }
            3 => {
                let r: Vec<f64> = (0..n).map(|u| s(from_x(0, u) + from_h(0, u))).collect();
                let reset: Vec<f64> = r.iter().zip(&before).map(|(r, h)| r * h).collect();
                for u in 0..n {
                    let z = s(from_x(1, u) + from_h(1, u));
                    let inner = if self.kind == Kind::ResetAfter {
                        r[u] * from_h(2, u)
                    } else {
                        product(&self.r, &reset, 2 * n + u) + self.rb[2 * n + u]
                    };
                    h[u] = (1.0 - z) * (from_x(2, u) + inner).tanh() + z * before[u];
                }
            }
            _ => {
                for u in 0..n {
                    let sum = from_x(0, u) + from_h(0, u);
                    h[u] = if self.kind == Kind::ReluRnn { sum.max(0.0) } else { sum.tanh() };
                }
            }
        }
    }

    /// Columns of the gates in `order`, from `m` of `rows` rows.
    pub(super) fn picked(&self, m: &[f64], rows: usize, order: &[usize]) -> Vec<f64> {
        let (n, columns) = (self.hidden, self.columns());
        let mut out = Vec::new();
        for row in 0..rows {
            for &g in order {
                out.extend_from_slice(&m[row * columns + g * n..row * columns + (g + 1) * n]);
            }
        }
        out
    }
}
