//! # ReduceMin
//! The smallest element over the axes, NaN when there is one; over nothing, the greatest value of the type
//! (an infinity for floats). `false < true`.
//! Opsets 1, 11, 12, 13, 18, 20.

use super::OpDef;
use super::integer_reduction::Integers;
use super::reduction::{self, Form, Kind, fold, truncated};
use crate::cpu::Io;
use crate::cpu::number::{Number, dispatch, is_nan};
use crate::cpu::reduce::Fold;
use crate::cpu::reduce::ReducePlan;
use crate::dtype::DType;
use crate::error::OpError;
use crate::loops;
use recurve_kernels::reduce as gpu;

pub(super) const DEF: OpDef = OpDef {
    name: "ReduceMin",
    domain: "",
    since: &[1, 11, 12, 13, 18, 20],
    until: None,
    dtypes: DTYPES,
    accuracy: reduction::ACCURACY,
    parse: |node| reduction::parse(node, &KIND),
    case: |g| reduction::case(g, &KIND, DEF.since, (-10.0, 10.0)),
};

static KIND: Kind = Kind {
    axes_input_from: 18,
    dtypes: DTYPES,
    folder: |dtype| {
        if dtype == DType::Bool {
            return Ok(fold_bools);
        }
        dispatch!(dtype, numbers, T => Ok(fold::<T, Extreme>))
    },
    floats: extreme,
    ints: |d, v| v.iter().copied().min().unwrap_or_else(|| truncated(d, f64::INFINITY)),
    bools: |v| !v.contains(&false),
    gpu: Some(gpu::Fold::Min),
    form: Form::Plain(loops::Fold::Min),
    integers: Integers::Wrapping,
};

/// Element types.
const DTYPES: &[DType] = &[
    DType::F32,
    DType::F64,
    DType::F16,
    DType::BF16,
    DType::I32,
    DType::I64,
    DType::U32,
    DType::U64,
    DType::I8,
    DType::U8,
    DType::Bool,
];

struct Extreme;

impl<T: Number> Fold<T> for Extreme {
    type State = T;
    fn empty() -> T {
        T::highest()
    }
    fn add(state: T, x: T) -> T {
        if x < state || (is_nan(x) && !is_nan(state)) { x } else { state }
    }
    fn join(a: T, b: T) -> T {
        <Self as Fold<T>>::add(a, b)
    }
    fn finish(state: T, _count: usize) -> T {
        state
    }
}

struct Truth;

impl Fold<u8> for Truth {
    type State = bool;
    fn empty() -> bool {
        true
    }
    fn add(state: bool, x: u8) -> bool {
        state && x != 0
    }
    fn join(a: bool, b: bool) -> bool {
        a && b
    }
    fn finish(state: bool, _count: usize) -> u8 {
        state.into()
    }
}

fn fold_bools(plan: &ReducePlan, io: &mut Io<'_, '_>) -> Result<(), OpError> {
    let x = io.tensor(0)?.bytes();
    let context = io.context;
    plan.run::<u8, Truth>(context, x, io.shaped_bytes(0, DType::Bool, &plan.out)?)
}

fn extreme(v: &[f64]) -> f64 {
    if v.iter().any(|x| x.is_nan()) {
        return f64::NAN;
    }
    v.iter().fold(f64::INFINITY, |a, &b| if b < a { b } else { a })
}
