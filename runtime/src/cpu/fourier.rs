//! The discrete Fourier transform of one line, in f64.
//!
//! Mixed radix, decimation in time: a line of `n = p · m` is split into `p` lines of `m`, which are transformed
//! and joined with twiddle factors from a table of `n`. Radices are 4 and the primes up to [`LARGEST_RADIX`]; a
//! length with a larger prime factor is transformed as a convolution of a power-of-two length (Bluestein). Error
//! grows with log n. The inverse is the conjugate of the transform of the conjugate, over `n`.

use crate::error::OpError;
use std::f64::consts::TAU;

/// Real and imaginary part.
pub(crate) type Complex = [f64; 2];

/// The largest prime that is joined directly: below it that is quicker than the convolution.
const LARGEST_RADIX: usize = 61;

/// Transforms lines of one length.
#[derive(Clone, Debug)]
pub(crate) struct Fourier {
    length: usize,
    /// `exp(−2πi·k / n)`.
    twiddles: Vec<Complex>,
    radices: Vec<usize>,
    convolution: Option<Box<Bluestein>>,
}

/// `k·n = (k² + n² − (k − n)²) / 2` turns a transform into a convolution with a chirp.
#[derive(Clone, Debug)]
struct Bluestein {
    inner: Fourier,
    /// `exp(−πi·k² / n)`.
    chirp: Vec<Complex>,
    /// Transform of the conjugate chirp, periodic.
    spectrum: Vec<Complex>,
}

fn product(a: Complex, b: Complex) -> Complex {
    [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]]
}

fn sum(a: Complex, b: Complex) -> Complex {
    [a[0] + b[0], a[1] + b[1]]
}

fn difference(a: Complex, b: Complex) -> Complex {
    [a[0] - b[0], a[1] - b[1]]
}

fn conjugate(line: &mut [Complex]) {
    line.iter_mut().for_each(|v| v[1] = -v[1]);
}

/// `exp(−2πi·k / n)`.
fn root(k: usize, n: usize) -> Complex {
    let (sin, cos) = (TAU * (k as f64 / n as f64)).sin_cos();
    [cos, -sin]
}

/// Factors of `n`, fours first; `None` when one is too large to be a radix.
fn radices(mut n: usize) -> Option<Vec<usize>> {
    let mut out = Vec::new();
    for p in [4].into_iter().chain(2..=LARGEST_RADIX) {
        while n > 1 && n.is_multiple_of(p) {
            out.push(p);
            n /= p;
        }
    }
    (n <= 1).then_some(out)
}

impl Fourier {
    /// For lines of `length` elements, which must not be 0.
    pub(crate) fn new(length: usize) -> Result<Self, OpError> {
        // Tables of a length that no tensor has would be refused by nobody else.
        const MOST: usize = 1 << 28;
        if length == 0 || length > MOST {
            return Err(OpError::value(format!("a Fourier transform of length {length}")));
        }
        if let Some(radices) = radices(length) {
            let twiddles = (0..length).map(|k| root(k, length)).collect();
            return Ok(Self { length, twiddles, radices, convolution: None });
        }
        let inner = Self::new((2 * length - 1).next_power_of_two())?;
        // k² modulo 2n keeps the angle small.
        let square = |k: usize| (k as u128 * k as u128 % (2 * length) as u128) as usize;
        let chirp: Vec<Complex> = (0..length).map(|k| root(square(k), 2 * length)).collect();
        let mut periodic = vec![[0.0; 2]; inner.length];
        for (k, c) in chirp.iter().enumerate() {
            let value = [c[0], -c[1]];
            periodic[k] = value;
            periodic[(inner.length - k) % inner.length] = value;
        }
        let mut spectrum = vec![[0.0; 2]; inner.length];
        inner.join(&periodic, 1, &mut spectrum, 0);
        let convolution = Some(Box::new(Bluestein { inner, chirp, spectrum }));
        Ok(Self { length, twiddles: Vec::new(), radices: Vec::new(), convolution })
    }

    /// Elements of working memory that a transform needs.
    pub(crate) fn work(&self) -> usize {
        self.convolution.as_ref().map_or(self.length, |c| 2 * c.inner.length)
    }

    /// Transforms `line` in place; forwards, or backwards with the factor `1 / n`.
    pub(crate) fn transform(&self, line: &mut [Complex], work: &mut [Complex], inverse: bool) {
        if inverse {
            conjugate(line);
        }
        match &self.convolution {
            None => {
                let work = &mut work[..self.length];
                self.join(line, 1, work, 0);
                line.copy_from_slice(work);
            }
            Some(convolution) => convolution.transform(line, work),
        }
        if inverse {
            let scale = 1.0 / self.length as f64;
            line.iter_mut().for_each(|v| *v = [v[0] * scale, -v[1] * scale]);
        }
    }

    /// Transforms every `stride`-th element of `from` to `to`; `level` radices have been taken off before.
    fn join(&self, from: &[Complex], stride: usize, to: &mut [Complex], level: usize) {
        let Some(&radix) = self.radices.get(level) else {
            to[0] = from[0];
            return;
        };
        let m = to.len() / radix;
        for (r, part) in to.chunks_exact_mut(m).enumerate() {
            self.join(&from[r * stride..], stride * radix, part, level + 1);
        }
        let mut terms = [[0.0; 2]; LARGEST_RADIX + 1];
        let terms = &mut terms[..radix];
        for k in 0..m {
            for (r, term) in terms.iter_mut().enumerate() {
                *term = product(to[r * m + k], self.twiddles[r * k * stride]);
            }
            match *terms {
                [a, b] => (to[k], to[m + k]) = (sum(a, b), difference(a, b)),
                [a, b, c, d] => {
                    let (even, odd) = (sum(a, c), sum(b, d));
                    let (left, right) = (difference(a, c), difference(b, d));
                    // −i times the difference of the odd terms.
                    let turned = [right[1], -right[0]];
                    to[k] = sum(even, odd);
                    to[m + k] = sum(left, turned);
                    to[2 * m + k] = difference(even, odd);
                    to[3 * m + k] = difference(left, turned);
                }
                _ => {
                    // Roots of the radix are every (n / radix)-th twiddle.
                    let step = self.length / radix;
                    for q in 0..radix {
                        let mut total = terms[0];
                        for (r, term) in terms.iter().enumerate().skip(1) {
                            total = sum(total, product(*term, self.twiddles[r * q % radix * step]));
                        }
                        to[q * m + k] = total;
                    }
                }
            }
        }
    }
}

impl Bluestein {
    fn transform(&self, line: &mut [Complex], work: &mut [Complex]) {
        let (padded, rest) = work.split_at_mut(self.inner.length);
        padded.fill([0.0; 2]);
        for ((p, x), c) in padded.iter_mut().zip(&*line).zip(&self.chirp) {
            *p = product(*x, *c);
        }
        self.inner.transform(padded, rest, false);
        padded.iter_mut().zip(&self.spectrum).for_each(|(p, s)| *p = product(*p, *s));
        self.inner.transform(padded, rest, true);
        for ((x, p), c) in line.iter_mut().zip(padded).zip(&self.chirp) {
            *x = product(*p, *c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Gen;

    #[test]
    fn transforms_of_all_kinds_of_length_match_the_definition() {
        let mut g = Gen::new(11);
        for n in (1..70).chain([97, 100, 128, 134, 210, 243, 509, 512]) {
            let fourier = Fourier::new(n).expect("small");
            let line: Vec<Complex> = (0..n).map(|_| [g.float(-1.0, 1.0), g.float(-1.0, 1.0)]).collect();
            let mut got = line.clone();
            let mut work = vec![[0.0; 2]; fourier.work()];
            fourier.transform(&mut got, &mut work, false);
            for (k, got) in got.iter().enumerate() {
                let terms = line.iter().enumerate().map(|(i, &x)| product(x, root(k * i % n, n)));
                let want = terms.fold([0.0; 2], sum);
                let apart = difference(*got, want);
                assert!(apart[0].abs() + apart[1].abs() < 1e-13 * n as f64, "{n}: {got:?} {want:?}");
            }
            fourier.transform(&mut got, &mut work, true);
            for (a, b) in got.iter().zip(&line) {
                let apart = difference(*a, *b);
                assert!(apart[0].abs() + apart[1].abs() < 1e-12, "{n}");
            }
        }
        assert!(Fourier::new(0).is_err());
        assert!(Fourier::new(usize::MAX).is_err());
    }
}
