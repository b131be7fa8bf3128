//! Losses of samples against the formula in f64; classes that are not there among them.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use super::map::value::{Float, bytes, held, near, parse};
use crate::class_loss::{Buffers, Losses};
use crate::dtype::DType;

/// Scores and logarithms, with weights and without, some samples ignored.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let dtype = r.pick(&[DType::F32, DType::F64, DType::F16, DType::BF16]);
    let narrow = dtype.bits() == 16 && r.bool();
    let shape = Losses {
        lines: [r.edge(&[1, 2], 1..=4), r.edge(&[1, 2, 300], 1..=9), r.edge(&[1, 300], 1..=6)],
        ignored: r.pick(&[None, None, Some(0), Some(-1), Some(100)]),
        scores: r.bool(),
        dtype,
        wide: r.bool(),
        stored: if narrow { DType::F32 } else { dtype },
    };
    let [images, classes, inner] = shape.lines.map(|extent| extent as usize);
    let drawn = |r: &mut Draw, count: usize, scale: f64| -> Vec<f64> {
        let of = |value: f64| match held(dtype, Float(value)) {
            Float(value) => value,
            _ => 0.0,
        };
        (0..count).map(|_| of(f64::from(r.unit()) * scale)).collect()
    };
    let x = drawn(r, images * classes * inner, 4.0);
    let weights = if r.bool() { Some(drawn(r, classes, 2.0)) } else { None };
    let mut targets: Vec<i64> = (0..images * inner).map(|_| r.index(classes) as i64).collect();
    if let Some(ignored) = shape.ignored {
        targets.iter_mut().filter(|_| r.within(0..=2) == 0).for_each(|target| *target = ignored);
    }
    let broken = r.within(0..=5) == 0;
    if broken {
        let at = r.index(targets.len());
        targets[at] = r.pick(&[-7, classes as i64]);
    }
    let broken =
        broken && targets.iter().any(|&t| shape.ignored != Some(t) && !(0..classes as i64).contains(&t));
    let encoded =
        |values: &[f64]| -> Vec<u8> { values.iter().flat_map(|&value| bytes(dtype, Float(value))).collect() };
    let indices: Vec<u8> = targets
        .iter()
        .flat_map(|&t| if shape.wide { t.to_le_bytes().to_vec() } else { (t as i32).to_le_bytes().to_vec() })
        .collect();
    let size = shape.stored.bits() / 8;
    let room = (targets.len() * size) as u64;
    let buffers = Buffers {
        x: lab.upload("x", &encoded(&x))?,
        targets: lab.upload("targets", &indices)?,
        weights: weights.as_ref().map(|weights| lab.upload("weights", &encoded(weights))).transpose()?,
        y: lab.room("y", room)?,
        total: if r.bool() { Some(lab.room("total", room)?) } else { None },
        fault: lab.upload("fault", &[0; 4])?,
    };
    if let Some(prepared) = shape.prepare(&buffers, &lab.device())? {
        lab.run(prepared)?;
    }
    if (lab.bytes(buffers.fault)? != [0; 4]) != broken {
        return Err(Failure::Wrong(format!("{shape:?}: {targets:?} is found faulty, or is not")));
    }
    let total = buffers.total.map(|total| lab.bytes(total)).transpose()?;
    let losses = lab.bytes(buffers.y)?;
    for (sample, &target) in targets.iter().enumerate() {
        let (image, at) = (sample / inner, sample % inner);
        let of = |class: usize| x[(image * classes + class) * inner + at];
        let counts = shape.ignored != Some(target) && (0..classes as i64).contains(&target);
        let (loss, weight) = if counts {
            let sum: f64 = (0..classes).map(|class| of(class).exp()).sum();
            let log = of(target as usize) - if shape.scores { sum.ln() } else { 0.0 };
            let weight = weights.as_ref().map_or(1.0, |weights| weights[target as usize]);
            (-log * weight, weight)
        } else {
            (0.0, 0.0)
        };
        let check = |got: &[u8], want: f64, units: f64| {
            let got = parse(shape.stored, &got[sample * size..][..size]);
            let want = held(shape.stored, Float(want));
            if near(shape.stored, got, want, units) {
                return Ok(());
            }
            Err(Failure::Wrong(format!("{shape:?}, sample {sample}: {got:?} instead of {want:?}")))
        };
        check(&losses, loss, 64.0)?;
        if let Some(total) = &total {
            check(total, weight, 1.0)?;
        }
    }
    Ok(())
}
