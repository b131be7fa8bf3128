//! Determinants against their expansion along the first row, and of matrices whose determinant is known.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use super::map::value::{Float, bytes, held, parse};
use crate::det::Determinants;
use crate::dtype::DType;

/// The expansion, and the sum of the sizes of its terms.
fn expanded(a: &[f64], n: usize, rows: usize, columns: u32) -> (f64, f64) {
    if rows == n {
        return (1.0, 1.0);
    }
    let (mut sum, mut size, mut sign) = (0.0, 0.0, 1.0);
    for column in (0..n).filter(|column| columns >> column & 1 == 0) {
        let (minor, large) = expanded(a, n, rows + 1, columns | 1 << column);
        sum += sign * a[rows * n + column] * minor;
        size += a[rows * n + column].abs() * large;
        sign = -sign;
    }
    (sum, size)
}

/// Small matrices of any kind, some of them singular; large ones that are permutations with factors.
pub(super) fn shapes(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let large = number % 4 == 3;
    let n = if large { r.edge(&[32, 33, 64], 10..=70) } else { r.edge(&[1, 2], 0..=6) };
    // More matrices than warps of the emulated device, at times.
    let matrices = if large { r.within(1..=3) } else { r.edge(&[1, 150], 1..=9) };
    let shape =
        Determinants { matrices, n, dtype: r.pick(&[DType::F32, DType::F64, DType::F16, DType::BF16]) };
    let of = |value: f64| match held(shape.dtype, Float(value)) {
        Float(value) => value,
        _ => 0.0,
    };
    let (size, n) = (shape.dtype.bits() / 8, n as usize);
    let (mut all, mut wanted): (Vec<f64>, Vec<(f64, f64)>) = (Vec::new(), Vec::new());
    for _ in 0..matrices {
        let mut a: Vec<f64> = vec![0.0; n * n];
        if large {
            let mut order: Vec<usize> = (0..n).collect();
            let mut want = 1.0;
            for i in (1..n).rev() {
                let j = r.index(i + 1);
                order.swap(i, j);
                want = if i == j { want } else { -want };
            }
            for (row, &column) in order.iter().enumerate() {
                let factor = r.pick(&[1.0, -1.0, 2.0, 0.5]);
                a[row * n + column] = factor;
                want *= factor;
            }
            wanted.push((of(want), 0.0));
        } else {
            a.iter_mut().for_each(|value| *value = of(r.unit().into()));
            if n > 1 && r.within(0..=4) == 0 {
                a.copy_within(0..n, n);
            }
            wanted.push(expanded(&a, n, 0, 0));
        }
        all.extend(a);
    }
    let encoded: Vec<u8> = all.iter().flat_map(|&value| bytes(shape.dtype, Float(value))).collect();
    let x = lab.upload("x", &encoded)?;
    let y = lab.room("y", (matrices as usize * size) as u64)?;
    let work = lab.room("work", shape.workspace(&lab.device())?.max(8))?;
    if let Some(prepared) = shape.prepare([x, y, work], &lab.device())? {
        lab.run(prepared)?;
    }
    for (number, (got, want)) in lab.bytes(y)?.chunks_exact(size).zip(wanted).enumerate() {
        let (want, of_terms) = want;
        let Float(got) = parse(shape.dtype, got) else { continue };
        let place = match shape.dtype {
            DType::F64 => 1e-15,
            DType::F16 => 1.0 / 1024.0,
            DType::BF16 => 1.0 / 128.0,
            _ => f64::from(f32::EPSILON),
        };
        let near = (got - of(want)).abs() <= place * want.abs() + 1e-14 * of_terms + 1e-7 * place;
        if !near && got != of(want) {
            return Err(Failure::Wrong(format!("{shape:?}, matrix {number}: {got} instead of {want}")));
        }
    }
    Ok(())
}
