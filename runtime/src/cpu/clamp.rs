//! Values held between two bounds, as Relu and Clip behind a contraction hold them: kernels do it where they store sums,
//! which takes no pass over the result.

use super::simd::Simd;
use crate::dtype::DType;
use crate::loops::program::{Kind, Opcode, Program};

/// `min(high, max(low, v))`, where NaN stays NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Clamp {
    /// At most `high`; neither is NaN.
    low: f32,
    high: f32,
}

impl Clamp {
    /// Leaves values as they are.
    pub(crate) const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };

    /// What `program` does to its one input of `f32`, where that is minima and maxima with constants, none of them NaN.
    pub(crate) fn of(program: &Program) -> Option<Self> {
        let ([DType::F32], [output]) = (program.inputs(), program.outputs()) else { return None };
        if output.dtype != DType::F32 {
            return None;
        }
        let constant = |register: usize| {
            let instruction = &program.instructions()[register];
            let bits = || program.constant(instruction.arguments[0] as usize) as u32;
            let value = (instruction.opcode == Opcode::Constant).then(|| f32::from_bits(bits()));
            value.filter(|value| instruction.kind == Kind::F32 && !value.is_nan())
        };
        // From what is stored back to the input, the bounds between.
        let (mut register, mut bounds) = (output.register, Vec::new());
        loop {
            let instruction = &program.instructions()[register];
            match instruction.opcode {
                Opcode::Input => break,
                Opcode::Min | Opcode::Max if instruction.kind == Kind::F32 => {
                    let [left, right, _] = instruction.arguments.map(|argument| argument as usize);
                    let (bound, rest) = match (constant(left), constant(right)) {
                        (Some(bound), None) => (bound, right),
                        (None, Some(bound)) => (bound, left),
                        _ => return None,
                    };
                    bounds.push((instruction.opcode == Opcode::Min, bound));
                    register = rest;
                }
                _ => return None,
            }
        }
        let held = bounds.into_iter().rev().fold(Self::NONE, |Self { low, high }, (least, bound)| {
            let hold = |value: f32| if least { value.min(bound) } else { value.max(bound) };
            Self { low: hold(low), high: hold(high) }
        });
        Some(held)
    }

    /// The bounds as vectors.
    #[inline(always)]
    pub(crate) fn on<S: Simd<f32>>(self, simd: S) -> Bounds<S> {
        Bounds { simd, low: simd.splat(self.low), high: simd.splat(self.high) }
    }
}

/// A [`Clamp`] in registers.
#[derive(Clone, Copy)]
pub(crate) struct Bounds<S: Simd<f32>> {
    simd: S,
    low: S::Vector,
    high: S::Vector,
}

impl<S: Simd<f32>> Bounds<S> {
    /// `value` held between them.
    #[inline(always)]
    pub(crate) fn hold(&self, value: S::Vector) -> S::Vector {
        self.simd.min(self.high, self.simd.max(self.low, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::{Lane, Level, Work};
    use crate::loops::program::{Builder, Reg};

    fn program(map: impl Fn(&mut Builder, Reg) -> Reg) -> Program {
        let mut builder = Builder::new(&[DType::F32]);
        let x = builder.input(0);
        let y = map(&mut builder, x);
        builder.finish(&[(y, DType::F32)]).expect("valid")
    }

    struct Hold<'s>(Clamp, &'s mut [f32]);

    impl Work for Hold<'_> {
        type Element = f32;
        type Output = ();

        #[inline(always)]
        fn run<S: Simd<f32>>(self, simd: S) {
            let bounds = self.0.on(simd);
            for values in self.1.chunks_exact_mut(S::LANES) {
                simd.store(bounds.hold(simd.load(values)), values);
            }
        }
    }

    /// What programs of minima and maxima in any order give, at the bounds, infinities and NaN, too.
    #[test]
    fn programs_are_held_as_they_say() {
        let values = [-7.0, -0.0, 0.0, 0.5, 3.0, 6.0, 9.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        type Held = fn(f32) -> f32;
        let nan_kept = |x: f32, held: f32| if x.is_nan() { x } else { held };
        let programs: [(Program, Held); 5] = [
            (
                program(|p, x| {
                    let zero = p.constant(Kind::F32, 0.0);
                    p.max(x, zero)
                }),
                |x| x.max(0.0),
            ),
            (
                program(|p, x| {
                    let (low, high) = (p.constant(Kind::F32, 0.0), p.constant(Kind::F32, 6.0));
                    let above = p.max(low, x);
                    p.min(above, high)
                }),
                |x| x.clamp(0.0, 6.0),
            ),
            (
                // The upper bound below the lower one: the last word is its.
                program(|p, x| {
                    let (low, high) = (p.constant(Kind::F32, 5.0), p.constant(Kind::F32, 1.0));
                    let above = p.max(x, low);
                    p.min(above, high)
                }),
                |_| 1.0,
            ),
            (
                program(|p, x| {
                    let (low, high) = (p.constant(Kind::F32, 1.0), p.constant(Kind::F32, 2.0));
                    let below = p.min(high, x);
                    p.max(below, low)
                }),
                |x| x.clamp(1.0, 2.0),
            ),
            (program(|_, x| x), |x| x),
        ];
        for (program, expected) in programs {
            let clamp = Clamp::of(&program).expect("minima and maxima");
            for level in Level::all() {
                for value in values {
                    let mut held = [value; 16];
                    f32::run(level, Hold(clamp, &mut held));
                    let expected = nan_kept(value, expected(value));
                    for held in held {
                        assert!(
                            held == expected || held.is_nan() && expected.is_nan(),
                            "{value}: {held}, {program}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn other_programs_are_none() {
        let others = [
            program(|p, x| {
                let two = p.constant(Kind::F32, 2.0);
                p.mul(x, two)
            }),
            program(|p, x| {
                let bound = p.constant(Kind::F32, f64::NAN);
                p.max(x, bound)
            }),
            program(|p, x| {
                let y = p.abs(x);
                p.max(x, y)
            }),
            program(|p, x| {
                let zero = p.constant(Kind::F32, 0.0);
                let y = p.max(x, zero);
                p.sqrt(y)
            }),
        ];
        for program in others {
            assert_eq!(Clamp::of(&program), None, "{program}");
        }
        let mut builder = Builder::new(&[DType::F32, DType::F32]);
        let (x, y) = (builder.input(0), builder.input(1));
        let larger = builder.max(x, y);
        assert_eq!(Clamp::of(&builder.finish(&[(larger, DType::F32)]).expect("valid")), None);
    }
}
