//! # Types of eight bits and fewer
//! `y[i] = x[i]`, where X or Y is of one of the types that [`Format`] tells of: floats of 8, 6 and 4 bits, powers of two, and
//! integers of 4 and 2 bits, packed.
//!
//! Every number passes through f64, which holds all floats, and beside it, where it is an integer, through 64 bits of its
//! sign, so that each conversion rounds at most once (an integer beyond 2⁵³ to a float of these types, which it exceeds anyway).
//! Where Y is packed a thread makes a byte of it, of up to four codes; else an element. Exact.
//!
//! Grid `min(⌈n / 256⌉, 32 per multiprocessor)`, block 256, no shared memory.

mod format;

use crate::device::{BF16, F16, Float16, Global};
use crate::dtype::DType;
use crate::elements::{self, Elements, THREADS};
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};
pub use format::{Format, PowerRounding, Rounding, packed_byte, unpack};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    y: Global<u8>,
    from: u32,
    to: u32,
    /// Elements.
    count: u32,
    rounding: Rounding,
    /// Of X, where `coded` is not 0, and of Y.
    formats: [Format; 2],
    coded: u16,
    /// Of Y, or its bytes.
    elements: Elements,
}

const _: () = assert!(size_of::<Params>() == 56);

/// Element `i` of X as a real number and as an integer: truncated toward zero, or modulo 2⁶⁴.
#[inline(always)]
fn read(p: &Params, i: usize) -> (f64, i64) {
    let real = |x: f64| (x, x as i64);
    let (x, is) = (p.x, |dtype: DType| p.from == dtype as u32);
    if p.coded != 0 {
        let format = &p.formats[0];
        return real(format.decode(unpack(|at| x.load(at), format.bits(), i)));
    }
    if is(DType::F32) {
        return real(x.cast::<f32>().load(i).into());
    }
    if is(DType::F64) {
        return real(x.cast::<f64>().load(i));
    }
    if is(DType::F16) {
        return real(x.cast::<F16>().load(i).to_f32().into());
    }
    if is(DType::BF16) {
        return real(x.cast::<BF16>().load(i).to_f32().into());
    }
    if is(DType::U64) {
        let whole = x.cast::<u64>().load(i);
        return (whole as f64, whole as i64);
    }
    let whole = if is(DType::I64) {
        x.cast::<i64>().load(i)
    } else if is(DType::I32) {
        x.cast::<i32>().load(i).into()
    } else if is(DType::U32) {
        x.cast::<u32>().load(i).into()
    } else if is(DType::I16) {
        x.cast::<i16>().load(i).into()
    } else if is(DType::U16) {
        x.cast::<u16>().load(i).into()
    } else if is(DType::I8) {
        x.cast::<i8>().load(i).into()
    } else {
        x.load(i).into()
    };
    (whole as f64, whole)
}

/// Stores a number of few bits as element `i` of Y, of a type that has no format: integers keep their low bits, floats are
/// truncated toward zero and saturated.
#[inline(always)]
fn write(p: &Params, i: usize, (real, whole): (f64, i64), is_whole: bool) {
    let is = |dtype: DType| p.to == dtype as u32;
    // All of these numbers are f32.
    let narrow = real as f32;
    macro_rules! integer {
        ($($dtype:ident $t:ty),*) => { $(
            if is(DType::$dtype) {
                return p.y.cast().store(i, if is_whole { whole as $t } else { real as $t });
            }
        )* };
    }
    integer!(I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64);
    if is(DType::Bool) {
        p.y.store(i, u8::from(real != 0.0));
    } else if is(DType::F64) {
        p.y.cast().store(i, real);
    } else if is(DType::F16) {
        p.y.cast().store(i, F16::from_f32(narrow));
    } else if is(DType::BF16) {
        p.y.cast().store(i, BF16::from_f32(narrow));
    } else {
        p.y.cast().store(i, narrow);
    }
}

/// Every thread, X being of one of these types.
#[inline(always)]
fn decode(p: Params) {
    let whole = p.formats[0].holds_integers();
    p.elements.each(|number| {
        let i = number as usize;
        write(&p, i, read(&p, i), whole);
    });
}

/// Every thread, Y being of one of these types.
#[inline(always)]
fn encode(p: Params) {
    let to = &p.formats[1];
    p.elements.each(|at| {
        let code = |i: usize| to.encode(read(&p, i), p.rounding);
        p.y.store(at as usize, packed_byte(to.bits(), p.count as usize, at as usize, code));
    });
}

entry!(
    /// To types that programs hold.
    DECODE = codes_decode(Params): decode, THREADS
);
entry!(
    /// To types of eight bits and fewer.
    ENCODE = codes_encode(Params): encode, THREADS
);

/// A conversion as the caller describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conversion {
    /// Type of X.
    pub from: DType,
    /// Type of Y.
    pub to: DType,
    /// Elements.
    pub count: u64,
    /// How numbers are made to fit.
    pub rounding: Rounding,
}

impl Conversion {
    /// Whether there is a kernel for it.
    pub fn accepts(&self) -> Result<(), Reject> {
        let held = |dtype: DType| dtype.is_float() || dtype.is_int() || dtype == DType::Bool;
        let formats = [self.from, self.to].map(|dtype| Format::of(dtype).is_some());
        for (operand, dtype, has_format) in [("x", self.from, formats[0]), ("y", self.to, formats[1])] {
            if !held(dtype) && !has_format {
                return Err(Reject::ElementType { operand });
            }
        }
        if formats == [false; 2] {
            return Err(Reject::ElementType { operand: "x" });
        }
        elements::limit("elements", self.count)
    }

    /// A launch that has been checked; nothing is to be done without elements.
    pub fn prepare(&self, [x, y]: [Buffer; 2], device: &Device) -> Result<Option<Prepared<Params>>, Reject> {
        self.accepts()?;
        if self.count == 0 {
            return Ok(None);
        }
        let bytes = |dtype: DType| (self.count * dtype.bits() as u64).div_ceil(8);
        let alignment = |dtype: DType| (dtype.bits() as u64 / 8).max(1);
        x.holds("x", bytes(self.from), alignment(self.from))?;
        y.holds("y", bytes(self.to), alignment(self.to))?;
        let [of_x, of_y] = [self.from, self.to].map(Format::of);
        let (coded, packed) = (of_x.is_some(), of_y.is_some());
        // One of them has a format; the other's is not looked at without one.
        let any = of_x.or(of_y).ok_or(Reject::ElementType { operand: "x" })?;
        let (elements, geometry) = Elements::on(device, if packed { bytes(self.to) } else { self.count });
        let params = Params {
            x: Global::from_address(x.address),
            y: Global::from_address(y.address),
            from: self.from as u32,
            to: self.to as u32,
            count: self.count as u32,
            rounding: self.rounding,
            formats: [of_x.unwrap_or(any), of_y.unwrap_or(any)],
            coded: coded.into(),
            elements,
        };
        let entry: &'static Entry<Params> = if packed { &ENCODE } else { &DECODE };
        Prepared::new(entry, geometry, params, device).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let rounding = Rounding { saturate: true, powers: PowerRounding::Up };
        let shape = Conversion { from: DType::F32, to: DType::F6E2M3, count: 5, rounding };
        let buffer = |bytes| Buffer { address: 4096, bytes };
        assert!(shape.prepare([buffer(20), buffer(4)], &EMULATED).is_ok());
        let short = shape.prepare([buffer(20), buffer(3)], &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "y", needed: 4, got: 3 }));
        assert!(Conversion { to: DType::F16, ..shape }.accepts().is_err());
        assert!(Conversion { from: DType::String, ..shape }.accepts().is_err());
        assert!(Conversion { count: u64::from(u32::MAX), ..shape }.accepts().is_err());
    }
}
