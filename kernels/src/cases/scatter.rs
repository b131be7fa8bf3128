//! Scatters against their definition, update by update.

use super::Failure;
use super::draw::Draw;
use super::gather_nd::{Drawn, draw, encoded};
use super::lab::Lab;
use super::map::value::{Bool, Float, Int, Value, bytes, held, parse};
use crate::dtype::DType;
use crate::launch::Buffer;
use crate::scatter::{Buffers, Meeting, prepare};

const DTYPES: [DType; 9] = [
    DType::F32,
    DType::F64,
    DType::F16,
    DType::BF16,
    DType::I8,
    DType::U16,
    DType::I32,
    DType::I64,
    DType::Bool,
];

fn value(r: &mut Draw, dtype: DType) -> Value {
    let value = match dtype {
        DType::Bool => Bool(r.bool()),
        _ if dtype.is_float() => Float((r.unit() * 2.0).into()),
        _ => Int(i128::from(r.within(0..=9))),
    };
    held(dtype, value)
}

fn meet(meeting: Meeting, dtype: DType, old: Value, update: Value) -> Value {
    let made = match (meeting, old, update) {
        (Meeting::Replace, _, update) => update,
        (Meeting::Add | Meeting::Max, Bool(a), Bool(b)) => Bool(a || b),
        (_, Bool(a), Bool(b)) => Bool(a && b),
        (Meeting::Add, Float(a), Float(b)) => Float(a + b),
        (Meeting::Multiply, Float(a), Float(b)) => Float(a * b),
        (Meeting::Max, Float(a), Float(b)) => Float(a.max(b)),
        (Meeting::Min, Float(a), Float(b)) => Float(a.min(b)),
        (Meeting::Add, Int(a), Int(b)) => Int(a + b),
        (Meeting::Multiply, Int(a), Int(b)) => Int(a.wrapping_mul(b)),
        (Meeting::Max, Int(a), Int(b)) => Int(a.max(b)),
        (Meeting::Min, Int(a), Int(b)) => Int(a.min(b)),
        other => panic!("{other:?}"),
    };
    held(dtype, made)
}

/// All types and ways to meet; several updates of one element are the rule.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let Drawn { form, index, indices, places, faulty } = draw(r);
    let dtype = r.pick(&DTYPES);
    let meeting = r.pick(&[
        Meeting::Replace,
        Meeting::Replace,
        Meeting::Add,
        Meeting::Multiply,
        Meeting::Max,
        Meeting::Min,
    ]);
    let size = dtype.bits() / 8;
    let mut want: Vec<Value> = (0..form.elements()).map(|_| value(r, dtype)).collect();
    let updates: Vec<Value> = (0..form.count()).map(|_| value(r, dtype)).collect();
    let encode = |values: &[Value]| values.iter().flat_map(|&v| bytes(dtype, v)).collect::<Vec<u8>>();
    let mut before = encode(&want);
    before.resize(before.len().next_multiple_of(4), 0xa5);
    let replaces = meeting == Meeting::Replace;
    let claims = vec![0; 4 * form.elements() as usize];
    let buffers = Buffers {
        updates: lab.upload("updates", &encode(&updates))?,
        indices: lab.upload("indices", &encoded(index, &indices))?,
        y: lab.upload("y", &before)?,
        claims: if replaces { lab.upload("claims", &claims)? } else { Buffer::default() },
        fault: lab.upload("fault", &[0; 4])?,
    };
    for prepared in prepare(dtype, meeting, &form, &buffers, &lab.device())?.into_iter().flatten() {
        lab.run(prepared)?;
    }
    let mut met = vec![0u32; want.len()];
    for (place, &update) in places.iter().zip(&updates) {
        if let Some(at) = *place {
            want[at] = meet(meeting, dtype, want[at], update);
            met[at] += 1;
        }
    }
    let got = lab.bytes(buffers.y)?;
    for (at, (got, &want)) in got.chunks(size).zip(&want).enumerate() {
        let got = parse(dtype, got);
        let close = match (got, want) {
            // Another order rounds otherwise, to the element's type every time.
            (Float(got), Float(want)) => {
                let ulp = match dtype {
                    DType::F64 => f64::EPSILON,
                    DType::F16 => 1.0 / 1024.0,
                    DType::BF16 => 1.0 / 128.0,
                    _ => f32::EPSILON.into(),
                };
                let exact = met[at] < 2 || !matches!(meeting, Meeting::Add | Meeting::Multiply);
                let spread = f64::from(met[at]) * (2.0 * f64::from(met[at]) + want.abs());
                if exact { got == want } else { (got - want).abs() <= 2.0 * ulp * spread }
            }
            (got, want) => got == want,
        };
        if !close {
            let what = format!("{form:?}, {dtype}, {meeting:?}, element {at}: {got:?} instead of {want:?}");
            return Err(Failure::Wrong(what));
        }
    }
    if got[want.len() * size..] != before[want.len() * size..] {
        return Err(Failure::Wrong(format!("{form:?}, {dtype}: bytes behind the elements")));
    }
    let found = lab.bytes(buffers.fault)? != [0; 4];
    if found != faulty {
        return Err(Failure::Wrong(format!("{form:?}: fault is {found}")));
    }
    Ok(())
}
