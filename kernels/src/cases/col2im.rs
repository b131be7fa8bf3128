//! Columns against their sum into the image, element by element of the columns.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use super::map::value::{Float, Int, Value, bytes, draw, held, near, parse};
use crate::col2im::{Axis, Columns};
use crate::dtype::DType;

/// Blocks over one to three axes, further apart and denser than their places, of every type.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let mut axes = [Axis::NONE; 3];
    let rank = r.within(1..=3) as usize;
    for axis in &mut axes[3 - rank..] {
        let (block, stride, dilation) = (r.within(1..=3), r.within(1..=3), r.within(1..=2));
        let (pad, end) = (r.within(0..=2), r.within(0..=2));
        let reach = dilation * (block - 1) + 1;
        let image = reach.saturating_sub(pad + end).max(1) + r.edge(&[0, 1], 0..=5);
        let places = (image + pad + end - reach) / stride + 1;
        *axis = Axis { image, block, stride, dilation, pad, places };
    }
    let types = [
        DType::F32,
        DType::F64,
        DType::F16,
        DType::BF16,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
    ];
    let shape = Columns { matrices: r.edge(&[1, 2], 1..=5), axes, dtype: r.pick(&types) };
    let count = |of: fn(&Axis) -> u32| axes.iter().map(of).product::<u32>() as usize;
    let (block, places) = (count(|axis| axis.block), count(|axis| axis.places));
    let (image, matrices) = (count(|axis| axis.image), shape.matrices as usize);
    let x: Vec<Value> = (0..matrices * block * places)
        .map(|_| {
            if shape.dtype.is_float() {
                held(shape.dtype, Float(r.unit().into()))
            } else {
                draw(r, shape.dtype)
            }
        })
        .collect();
    let size = shape.dtype.bits() / 8;
    let encoded: Vec<u8> = x.iter().flat_map(|&value| bytes(shape.dtype, value)).collect();
    let from = lab.upload("x", &encoded)?;
    let to = lab.room("y", (matrices * image * size) as u64)?;
    if let Some(prepared) = shape.prepare([from, to], &lab.device())? {
        lab.run(prepared)?;
    }
    let mut want = vec![if shape.dtype.is_float() { Float(0.0) } else { Int(0) }; matrices * image];
    for (number, value) in x.iter().enumerate() {
        let (mut place, mut offset) = (number % places, number / places % block);
        let (mut at, mut step, mut inside) = (0, 1, true);
        for axis in axes.iter().rev() {
            let (p, k) = (place % axis.places as usize, offset % axis.block as usize);
            (place, offset) = (place / axis.places as usize, offset / axis.block as usize);
            let i = p * axis.stride as usize + k * axis.dilation as usize;
            let i = i.checked_sub(axis.pad as usize).filter(|&i| i < axis.image as usize);
            inside &= i.is_some();
            at += i.unwrap_or(0) * step;
            step *= axis.image as usize;
        }
        if inside {
            let sum = &mut want[number / (places * block) * image + at];
            *sum = match (*sum, *value) {
                (Float(a), Float(b)) => Float(a + b),
                (Int(a), Int(b)) => held(shape.dtype, Int(a + b)),
                other => panic!("{other:?}"),
            };
        }
    }
    for (number, (got, want)) in lab.bytes(to)?.chunks_exact(size).zip(want).enumerate() {
        let (got, want) = (parse(shape.dtype, got), held(shape.dtype, want));
        if !near(shape.dtype, got, want, if shape.dtype.is_float() { 32.0 } else { 0.0 }) {
            let what = format!("{shape:?}, element {number}: {got:?} instead of {want:?}");
            return Err(Failure::Wrong(what));
        }
    }
    Ok(())
}
