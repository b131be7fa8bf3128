//! Pools against the formula in f64.

use super::Failure;
use super::draw::{Draw, decode, encode};
use super::lab::{Lab, close};
use crate::conv::{Axis, MOST_AXES};
use crate::element::Element;
use crate::launch::Buffer;
use crate::pool::{Buffers, Kind, Pool, Shape};

fn axis(r: &mut Draw, most: u32) -> (Axis, u32) {
    let (kernel, stride, dilation) = (r.within(1..=4), r.within(1..=3), r.within(1..=3));
    let (input, begin, end) = (r.within(1..=most), r.within(0..=4), r.within(0..=4));
    let reach = (kernel - 1) * dilation + 1;
    // Windows may begin in the padding, or in what a rounded extent adds behind it.
    let output = (input + begin + end).saturating_sub(reach) / stride + 1 + r.within(0..=1);
    (Axis { input, output, kernel, stride, dilation, begin }, end)
}

/// A place along one axis, where it is inside.
fn inside(axis: &Axis, position: u32, tap: u32) -> Option<usize> {
    let at = i64::from(position * axis.stride + tap * axis.dilation) - i64::from(axis.begin);
    usize::try_from(at).ok().filter(|&at| at < axis.input as usize)
}

/// Windows of up to three axes, of all kinds; places along with largest elements.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let rank = r.within(1..=3) as usize;
    let (mut axes, mut ends) = ([Axis::NONE; MOST_AXES], [0; MOST_AXES]);
    for i in MOST_AXES - rank..MOST_AXES {
        (axes[i], ends[i]) = axis(r, if rank == 1 { 260 } else { 12 });
    }
    let element = r.pick(&[Element::F32, Element::F16, Element::BF16]);
    let pool = match r.within(0..=4) {
        0 | 1 => Pool::Max { column_major: r.bool() },
        2 | 3 => Pool::Mean { padded: r.bool() },
        _ => Pool::Norm { power: r.pick(&[1.0, 2.0, 3.0, 4.0]) },
    };
    let is_max = matches!(pool, Pool::Max { .. });
    let kind = if is_max && r.bool() { r.pick(&[Kind::I8, Kind::U8]) } else { Kind::Real(element) };
    let shape = Shape { kind, pool, planes: r.within(1..=4), axes, ends };
    let plane: usize = axes.iter().map(|a| a.input as usize).product();
    let positions: usize = axes.iter().map(|a| a.output as usize).product();
    let mut values = r.floats(element, shape.planes as usize * plane, 4.0);
    // Equal elements, whose first place counts.
    values.iter_mut().step_by(3).for_each(|v| *v = v.round());
    let bytes = match kind {
        Kind::Real(element) => encode(element, &values),
        Kind::I8 => values.iter().map(|&v| (v * 30.0) as i8 as u8).collect(),
        Kind::U8 => values.iter().map(|&v| (v.abs() * 60.0) as u8).collect(),
    };
    let numbers = |bytes: &[u8]| -> Vec<f64> {
        match kind {
            Kind::Real(element) => decode(element, bytes).into_iter().map(f64::from).collect(),
            Kind::I8 => bytes.iter().map(|&b| f64::from(b as i8)).collect(),
            Kind::U8 => bytes.iter().map(|&b| f64::from(b)).collect(),
        }
    };
    let given = numbers(&bytes);
    let elements = shape.planes as usize * positions;
    let places = is_max && r.bool();
    let buffers = Buffers {
        x: lab.upload("x", &bytes)?,
        y: lab.room("y", elements as u64 * kind.bytes())?,
        places: if places { lab.room("places", 8 * elements as u64)? } else { Buffer::default() },
    };
    if let Some(prepared) = shape.prepare(&buffers, &lab.device())? {
        lab.run(prepared)?;
    }
    let got = numbers(&lab.bytes(buffers.y)?);
    let at: Vec<u64> = if places {
        let word = |b: &[u8]| u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
        lab.bytes(buffers.places)?.chunks_exact(8).map(word).collect()
    } else {
        Vec::new()
    };
    for (number, &got) in got.iter().enumerate() {
        let (plane_number, mut rest) = (number / positions, number % positions);
        let mut place = [0; MOST_AXES];
        for i in (0..MOST_AXES).rev() {
            place[i] = (rest % axes[i].output as usize) as u32;
            rest /= axes[i].output as usize;
        }
        let mut taps = Vec::new();
        for a in 0..axes[0].kernel {
            for b in 0..axes[1].kernel {
                for c in 0..axes[2].kernel {
                    let at: Option<Vec<usize>> = [a, b, c]
                        .into_iter()
                        .enumerate()
                        .map(|(i, t)| inside(&axes[i], place[i], t))
                        .collect();
                    taps.extend(at);
                }
            }
        }
        let flat = |at: &[usize], column: bool| {
            let [d, h, w] = axes.map(|a| a.input as usize);
            let within =
                if column { at[0] + d * (at[1] + h * at[2]) } else { (at[0] * h + at[1]) * w + at[2] };
            plane_number * plane + within
        };
        let window: Vec<f64> = taps.iter().map(|at| given[flat(at, false)]).collect();
        let what = || format!("{shape:?}, element {number}");
        let want = match pool {
            Pool::Max { column_major } => {
                let lowest = match kind {
                    Kind::Real(_) => f64::NEG_INFINITY,
                    Kind::I8 => -128.0,
                    Kind::U8 => 0.0,
                };
                let most = window.iter().copied().fold(lowest, f64::max);
                if places {
                    let first = window.iter().position(|&v| v == most);
                    let want = first.map_or(plane_number * plane, |i| flat(&taps[i], column_major));
                    if at[number] != want as u64 {
                        let problem = format!("{}: place {} instead of {want}", what(), at[number]);
                        return Err(Failure::Wrong(problem));
                    }
                }
                if got != most {
                    return Err(Failure::Wrong(format!("{}: {got} instead of {most}", what())));
                }
                continue;
            }
            Pool::Mean { padded } => {
                let count = if padded {
                    let taps = |i: usize| {
                        let (axis, end) = (axes[i], ends[i]);
                        let past = |t: &u32| {
                            place[i] * axis.stride + t * axis.dilation >= axis.input + axis.begin + end
                        };
                        (0..axis.kernel).filter(|t| !past(t)).count()
                    };
                    (0..MOST_AXES).map(taps).product()
                } else {
                    window.len()
                };
                window.iter().sum::<f64>() / count as f64
            }
            Pool::Norm { power } => {
                let power = f64::from(power);
                window.iter().map(|v| v.abs().powf(power)).sum::<f64>().powf(1.0 / power)
            }
        };
        close(got, want, element, 64.0, what)?;
    }
    Ok(())
}
