//! Linear attention against the formula in f64, every rule.

use super::Failure;
use super::draw::Draw;
use super::lab::{Lab, close};
use crate::element::Element;
use crate::launch::Buffer;
use crate::linear_attention::{Buffers, Given, Shape};

/// Keys narrower and wider than a warp, with and without a past.
pub(super) fn shapes(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let all = [Element::F32, Element::F16, Element::BF16];
    let kv_heads = r.within(1..=3);
    let shape = Shape {
        batch: r.within(1..=2),
        tokens: r.edge(&[1, 9], 1..=6),
        heads: kv_heads * r.within(1..=3),
        kv_heads,
        key: r.edge(&[1, 31, 32, 33, 64, 256], 1..=40),
        value: r.edge(&[1, 2, 13], 1..=6),
        scale: 0.5,
        decays: [Given::Nothing, Given::Head, Given::Element][number as usize % 3],
        rates: [Given::Nothing, Given::One, Given::Head][number as usize / 3 % 3],
        element: r.pick(&all),
        state: r.pick(&all),
    };
    let rows = (shape.batch * shape.tokens) as usize;
    let [heads, kv_heads, dk, dv] = [shape.heads, shape.kv_heads, shape.key, shape.value].map(|n| n as usize);
    let states = shape.batch as usize * kv_heads;
    let mut drawn = |count: usize, scale: f32| r.floats(shape.element, count, scale);
    let (q, v) = (drawn(rows * heads * dk, 1.0), drawn(rows * kv_heads * dv, 1.0));
    let k = drawn(rows * kv_heads * dk, 1.0 / (dk as f32).sqrt());
    let numbers = |given: Given| match given {
        Given::Nothing => 0,
        Given::One => 1,
        Given::Head => kv_heads,
        Given::Element => kv_heads * dk,
    };
    let (of_decay, of_rate) = (numbers(shape.decays), numbers(shape.rates));
    let decay: Vec<f32> = drawn(rows * of_decay, 1.0).into_iter().map(|g| -g.abs()).collect();
    let rate: Vec<f32> = drawn(rows * of_rate, 1.0).into_iter().map(f32::abs).collect();
    let past = r.bool().then(|| r.floats(shape.state, states * dk * dv, 1.0));
    let mut upload = |name: &str, values: &[f32]| lab.upload_floats(name, shape.element, values);
    let mut buffers = Buffers {
        query: upload("query", &q)?,
        key: upload("key", &k)?,
        value: upload("value", &v)?,
        decay: upload("decay", &decay)?,
        rate: upload("rate", &rate)?,
        ..Buffers::default()
    };
    if let Some(past) = &past {
        buffers.past = lab.upload_floats("past", shape.state, past)?;
    }
    let bytes = |element: Element, count: usize| element.bytes() * count as u64;
    buffers.y = lab.room("y", bytes(shape.element, rows * heads * dv))?;
    // The states are not always wanted.
    if r.bool() {
        buffers.present = lab.room("present", bytes(shape.state, states * dk * dv))?;
    }
    if let Some(prepared) = shape.prepare(&buffers, &lab.device())? {
        lab.run(prepared)?;
    }
    let y = lab.floats(buffers.y, shape.element, 0, rows * heads * dv)?;
    let present = if buffers.present == Buffer::default() {
        None
    } else {
        Some(lab.floats(buffers.present, shape.state, 0, states * dk * dv)?)
    };
    for state in 0..states {
        let (image, head) = (state / kv_heads, state % kv_heads);
        let mut s: Vec<f64> = match &past {
            Some(past) => past[state * dk * dv..][..dk * dv].iter().map(|&v| v.into()).collect(),
            None => vec![0.0; dk * dv],
        };
        for token in 0..shape.tokens as usize {
            let row = image * shape.tokens as usize + token;
            let own = row * kv_heads + head;
            let key = |d: usize| f64::from(k[own * dk + d]);
            for (at, s) in s.iter_mut().enumerate() {
                match shape.decays {
                    Given::Head => *s *= f64::from(decay[own]).exp(),
                    Given::Element => *s *= f64::from(decay[own * dk + at / dv]).exp(),
                    _ => {}
                }
            }
            let update: Vec<f64> = (0..dv)
                .map(|m| {
                    let held: f64 = (0..dk).map(|d| s[d * dv + m] * key(d)).sum();
                    let value = f64::from(v[own * dv + m]);
                    match shape.rates {
                        Given::One => f64::from(rate[row]) * (value - held),
                        Given::Head => f64::from(rate[own]) * (value - held),
                        _ => value,
                    }
                })
                .collect();
            s.iter_mut().enumerate().for_each(|(at, s)| *s += key(at / dv) * update[at % dv]);
            for reader in head * (heads / kv_heads)..(head + 1) * (heads / kv_heads) {
                let query = |d: usize| f64::from(q[(row * heads + reader) * dk + d]);
                for m in 0..dv {
                    let want = 0.5 * (0..dk).map(|d| s[d * dv + m] * query(d)).sum::<f64>();
                    let got = y[(row * heads + reader) * dv + m];
                    close(got.into(), want, shape.element, 64.0, || format!("{shape:?}, row {row}, {m}"))?;
                }
            }
        }
        for (at, want) in s.into_iter().enumerate() {
            let Some(present) = &present else { break };
            let got = present[state * dk * dv + at];
            close(got.into(), want, shape.state, 64.0, || format!("{shape:?}, state {state}, {at}"))?;
        }
    }
    Ok(())
}
