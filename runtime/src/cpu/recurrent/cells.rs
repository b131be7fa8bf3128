//! One step of each cell, as products with panels: what the sums start from, and how the gates of a unit
//! become its state.
//!
//! All of these see the units of one thread; `lo` is the offset of a panel's units from the first of them.

use super::gate::{Gate, Gates};
use crate::cpu::panels::Product;
use crate::cpu::relay::Next;
use crate::cpu::simd::{Simd, Work, fetch_near};

/// What all cells need at a step.
pub(super) struct Step<'s, F> {
    /// What is multiplied with the panels: `[rows, stride]`, of which `hidden` columns count.
    pub(super) operand: &'s [F],
    pub(super) stride: usize,
    pub(super) hidden: usize,
    /// The thread's first unit, and how many it has.
    pub(super) first: usize,
    pub(super) own: usize,
    /// W·x + b of this step and group: `[rows, panels, W]`.
    pub(super) projected: &'s [F],
    pub(super) gates: Gates<'s, F>,
}

impl<F: Gate> Step<'_, F> {
    #[inline(always)]
    fn row(&self, row: usize) -> &[F] {
        &self.operand[row * self.stride..][..self.hidden]
    }

    /// The projected gates of `panel` and `row`, of which there are `gates`.
    #[inline(always)]
    fn projected<const W: usize>(&self, gates: usize, panel: usize, row: usize) -> &[F; W] {
        &self.projected[row * self.own * gates..].as_chunks().0[panel]
    }

    /// Asks for the projected gates of `panel` and `row` ahead of their use: weights have passed through the caches since
    /// they were written.
    #[inline(always)]
    fn fetch<const W: usize>(&self, gates: usize, panel: usize, row: usize) {
        fetch_near(self.projected::<W>(gates, panel, row));
    }

    /// The current state of `count` of the thread's own units.
    fn state(&self, row: usize, lo: usize, count: usize) -> &[F] {
        &self.operand[row * self.stride + self.first + lo..][..count]
    }
}

/// Gates i, o, f, c: `C = f·C + i·c`, `h = o·h(C)`.
pub(super) struct Lstm<'s, F> {
    pub(super) step: Step<'s, F>,
    /// C of the thread's units: `[rows, own]`.
    pub(super) cell: &'s mut [F],
    pub(super) next: Next<'s, F>,
    /// Peepholes i, o, f of the thread's units.
    pub(super) peepholes: Option<[&'s [F]; 3]>,
    pub(super) input_forget: bool,
}

/// Units of an LSTM panel, and of one of a GRU with `linear_before_reset`.
pub(super) const UNITS: usize = 16;

impl<F: Gate> Product<F, 64> for Lstm<'_, F> {
    const IN_SHELL: bool = true;

    #[inline(always)]
    fn operand(&self, row: usize) -> &[F] {
        self.step.row(row)
    }

    #[inline(always)]
    fn fetch(&self, panel: usize, row: usize) {
        self.step.fetch::<64>(4, panel, row);
    }

    #[inline(always)]
    fn start(&self, panel: usize, row: usize, sums: &mut [F; 64]) {
        *sums = *self.step.projected(4, panel, row);
    }

    fn finish(&mut self, panel: usize, row: usize, sums: &mut [F; 64]) {
        F::run(self.step.gates.level, self.gates(panel, row, sums));
    }

    #[inline(always)]
    fn finish_in<S: Simd<F>>(&mut self, simd: S, panel: usize, row: usize, sums: &mut [F; 64]) {
        self.gates(panel, row, sums).run(simd);
    }
}

impl<F: Gate> Lstm<'_, F> {
    #[inline(always)]
    fn gates<'g>(&'g mut self, panel: usize, row: usize, sums: &'g mut [F; 64]) -> LstmGates<'g, F> {
        let units = panel * UNITS..(panel + 1) * UNITS;
        let cell = &mut self.cell[row * self.step.own..].as_chunks_mut().0[panel];
        let h = &mut self.next.row(row).as_chunks_mut().0[panel];
        let peepholes = self.peepholes.map(|p| p.map(|p| &p[units.clone()]));
        LstmGates { gates: &self.step.gates, sums, cell, h, peepholes, input_forget: self.input_forget }
    }
}

/// The gates of [`UNITS`] units of one row: `sums` and C become C and h.
pub(super) struct LstmGates<'s, F> {
    pub(super) gates: &'s Gates<'s, F>,
    pub(super) sums: &'s mut [F; 64],
    pub(super) cell: &'s mut [F; UNITS],
    pub(super) h: &'s mut [F; UNITS],
    pub(super) peepholes: Option<[&'s [F]; 3]>,
    pub(super) input_forget: bool,
}

impl<F: Gate> Work for LstmGates<'_, F> {
    type Element = F;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<F>>(self, simd: S) {
        let Self { gates, sums, cell, h, peepholes, input_forget } = self;
        if gates.usual && peepholes.is_none() && !input_forget {
            return usual_lstm(simd, sums, cell, h);
        }
        let ([mut i, mut o, mut f, mut g], mut c) = (quarters(sums), *cell);
        if let Some([input, _, forget]) = peepholes {
            accumulate(simd, input, &c, &mut i);
            accumulate(simd, forget, &c, &mut f);
        }
        gates.activate(simd, 0, &mut i);
        if input_forget {
            for (f, i) in f.iter_mut().zip(&i) {
                *f = F::one().sub(*i);
            }
        } else {
            gates.activate(simd, 0, &mut f);
        }
        gates.activate(simd, 1, &mut g);
        for (((c, g), i), f) in c.iter_mut().zip(&mut g).zip(&i).zip(&f) {
            *c = f.fma(simd, *c, i.mul(*g));
            *g = *c;
        }
        if let Some([_, output, _]) = peepholes {
            accumulate(simd, output, &c, &mut o);
        }
        gates.activate(simd, 0, &mut o);
        gates.activate_unbounded(simd, 2, &mut g);
        for (o, g) in o.iter_mut().zip(&g) {
            *o = o.mul(*g);
        }
        (*cell, *h) = (c, o);
    }
}

/// The gates i, o, f, c of [`UNITS`] units.
#[inline(always)]
fn quarters<F: Gate>(sums: &[F; 64]) -> [[F; UNITS]; 4] {
    let mut quarters = [[F::zero(); UNITS]; 4];
    for (to, from) in quarters.iter_mut().zip(sums.as_chunks().0) {
        *to = *from;
    }
    quarters
}

/// The gates of an LSTM as it usually is: one loop over arrays that nothing else can point to, of which the compiler
/// makes vectors that stay in registers.
#[inline(always)]
fn usual_lstm<F: Gate, S: Simd<F>>(simd: S, sums: &[F; 64], cell: &mut [F; UNITS], h: &mut [F; UNITS]) {
    let ([i, o, f, g], mut c, mut y) = (quarters(sums), *cell, [F::zero(); UNITS]);
    for u in 0..UNITS {
        let (i, f, g) = (i[u].logistic(simd), f[u].logistic(simd), g[u].hyperbolic(simd));
        c[u] = f.fma(simd, c[u], i.mul(g));
        y[u] = o[u].logistic(simd).mul(c[u].hyperbolic(simd));
    }
    (*cell, *h) = (c, y);
}

/// `c[u] = a[u] · b[u] + c[u]`.
#[inline(always)]
fn accumulate<F: Gate, S: Simd<F>>(simd: S, a: &[F], b: &[F], c: &mut [F]) {
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        *c = a.fma(simd, *b, *c);
    }
}

/// Gates z and r of a plain GRU: keeps z and gives `r ⊙ h`.
pub(super) struct Reset<'s, F> {
    pub(super) step: Step<'s, F>,
    /// z of the thread's units: `[rows, own]`.
    pub(super) update: &'s mut [F],
    pub(super) next: Next<'s, F>,
}

impl<F: Gate> Product<F, 64> for Reset<'_, F> {
    fn operand(&self, row: usize) -> &[F] {
        self.step.row(row)
    }

    fn fetch(&self, panel: usize, row: usize) {
        self.step.fetch::<64>(2, panel, row);
    }

    #[inline(always)]
    fn start(&self, panel: usize, row: usize, sums: &mut [F; 64]) {
        *sums = *self.step.projected(2, panel, row);
    }

    fn finish(&mut self, panel: usize, row: usize, sums: &mut [F; 64]) {
        let (units, lo) = (32, panel * 32);
        self.step.gates.activate_all(0, sums);
        let (z, r) = sums.split_at(units);
        self.update[row * self.step.own + lo..][..units].copy_from_slice(z);
        let to = &mut self.next.row(row)[lo..lo + units];
        for ((to, r), h) in to.iter_mut().zip(r).zip(self.step.state(row, lo, units)) {
            *to = r.mul(*h);
        }
    }
}

/// Gate h of a plain GRU, from `r ⊙ h`; the next state's place holds the state of the last step.
pub(super) struct Hidden<'s, F> {
    pub(super) step: Step<'s, F>,
    pub(super) update: &'s [F],
    pub(super) next: Next<'s, F>,
}

impl<F: Gate> Product<F, 64> for Hidden<'_, F> {
    fn operand(&self, row: usize) -> &[F] {
        self.step.row(row)
    }

    fn fetch(&self, panel: usize, row: usize) {
        self.step.fetch::<64>(1, panel, row);
    }

    #[inline(always)]
    fn start(&self, panel: usize, row: usize, sums: &mut [F; 64]) {
        *sums = *self.step.projected(1, panel, row);
    }

    fn finish(&mut self, panel: usize, row: usize, sums: &mut [F; 64]) {
        let lo = panel * 64;
        self.step.gates.activate_all(1, sums);
        let h = &mut self.next.row(row)[lo..lo + 64];
        blend(&self.update[row * self.step.own + lo..][..64], sums, h);
    }
}

/// `(1 − z) · g + z · h` into `h`.
fn blend<F: Gate>(z: &[F], g: &[F], h: &mut [F]) {
    for ((z, g), h) in z.iter().zip(g).zip(h) {
        *h = F::one().sub(*z).mul(*g).add(z.mul(*h));
    }
}

/// All gates of a GRU with `linear_before_reset`.
pub(super) struct Linear<'s, F> {
    pub(super) step: Step<'s, F>,
    /// Recurrent bias of the hidden gate, of the thread's units.
    pub(super) bias: &'s [F],
    pub(super) next: Next<'s, F>,
}

impl<F: Gate> Product<F, 48> for Linear<'_, F> {
    const IN_SHELL: bool = true;

    #[inline(always)]
    fn operand(&self, row: usize) -> &[F] {
        self.step.row(row)
    }

    #[inline(always)]
    fn fetch(&self, panel: usize, row: usize) {
        self.step.fetch::<48>(3, panel, row);
    }

    #[inline(always)]
    fn start(&self, panel: usize, row: usize, sums: &mut [F; 48]) {
        *sums = *self.step.projected(3, panel, row);
        sums[2 * UNITS..].copy_from_slice(&self.bias[panel * UNITS..][..UNITS]);
    }

    fn finish(&mut self, panel: usize, row: usize, sums: &mut [F; 48]) {
        F::run(self.step.gates.level, self.gates(panel, row, sums));
    }

    #[inline(always)]
    fn finish_in<S: Simd<F>>(&mut self, simd: S, panel: usize, row: usize, sums: &mut [F; 48]) {
        self.gates(panel, row, sums).run(simd);
    }
}

impl<F: Gate> Linear<'_, F> {
    /// Puts the state of the panel's units where their next one will be.
    #[inline(always)]
    fn gates<'g>(&'g mut self, panel: usize, row: usize, sums: &'g mut [F; 48]) -> LinearGates<'g, F> {
        let step = &self.step;
        let projected = &step.projected::<48>(3, panel, row).as_chunks().0[2];
        let h = &mut self.next.row(row).as_chunks_mut().0[panel];
        h.copy_from_slice(step.state(row, panel * UNITS, UNITS));
        LinearGates { gates: &step.gates, sums, projected, h }
    }
}

struct LinearGates<'s, F> {
    gates: &'s Gates<'s, F>,
    sums: &'s mut [F; 48],
    /// W·x + b of the hidden gate.
    projected: &'s [F; UNITS],
    h: &'s mut [F; UNITS],
}

impl<F: Gate> Work for LinearGates<'_, F> {
    type Element = F;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<F>>(self, simd: S) {
        let Self { gates, sums, projected, h: to } = self;
        let (mut zr, mut g, mut h, x) = ([F::zero(); 2 * UNITS], [F::zero(); UNITS], *to, *projected);
        zr.copy_from_slice(&sums[..2 * UNITS]);
        g.copy_from_slice(&sums[2 * UNITS..]);
        gates.activate(simd, 0, &mut zr);
        for ((g, r), x) in g.iter_mut().zip(&zr[UNITS..]).zip(&x) {
            *g = r.fma(simd, *g, *x);
        }
        gates.activate(simd, 1, &mut g);
        for ((z, g), h) in zr.iter().zip(&g).zip(&mut h) {
            *h = z.fma(simd, h.sub(*g), *g);
        }
        *to = h;
    }
}

/// The only gate of an RNN.
pub(super) struct Plain<'s, F> {
    pub(super) step: Step<'s, F>,
    pub(super) next: Next<'s, F>,
}

impl<F: Gate> Product<F, 64> for Plain<'_, F> {
    fn operand(&self, row: usize) -> &[F] {
        self.step.row(row)
    }

    fn fetch(&self, panel: usize, row: usize) {
        self.step.fetch::<64>(1, panel, row);
    }

    #[inline(always)]
    fn start(&self, panel: usize, row: usize, sums: &mut [F; 64]) {
        *sums = *self.step.projected(1, panel, row);
    }

    fn finish(&mut self, panel: usize, row: usize, sums: &mut [F; 64]) {
        let lo = panel * 64;
        self.step.gates.activate_all(0, sums);
        let h = &mut self.next.row(row)[lo..lo + 64];
        h.copy_from_slice(sums);
    }
}
