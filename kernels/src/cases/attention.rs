//! Attention against the formula in f64.

use super::Failure;
use super::draw::Draw;
use super::gemm::nearest_tf32;
use super::lab::{Lab, close};
use crate::attention::{Buffers, Mask, Shape, Strides, UNBOUNDED};
use crate::element::Element;
use crate::gemm::Factors;
use crate::launch::{Buffer, Launch};

/// Heads one behind the other, or side by side in each row.
fn strides(packed: bool, heads: u32, rows: u32, width: u32) -> Strides {
    if packed {
        return Strides { image: rows * heads * width, head: width, row: heads * width };
    }
    Strides { image: heads * rows * width, head: rows * width, row: width }
}

fn at(s: Strides, image: u32, head: u32, row: u32) -> usize {
    (image * s.image + head * s.head + row * s.row) as usize
}

/// Queries and keys at the edges of their blocks, heads up to the widest; masks, windows, valid lengths, caps.
pub(super) fn shapes(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let element = r.pick(&[Element::F32, Element::F16, Element::BF16]);
    let whole = element != Element::F32 && r.bool();
    one((element, Factors::Own), whole, number.is_multiple_of(8), r, lab)
}

/// f32 that may be rounded to tf32: where tensor cores take it, and where it stays as it is.
pub(super) fn tf32(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let whole = r.within(0..=3) > 0;
    one((Element::F32, Factors::Tf32), whole, number.is_multiple_of(8), r, lab)
}

/// `whole`: rows begin where copies of 16 bytes do. `wide`: beyond the entries of narrower heads.
fn one(
    (element, factors): (Element, Factors),
    whole: bool,
    wide: bool,
    r: &mut Draw,
    lab: &mut Lab<'_>,
) -> Result<(), Failure> {
    let (kv_heads, group) = (r.within(1..=2), r.within(1..=3));
    let heads = kv_heads * group;
    let (queries, keys, [width, value_width]) = if whole {
        // What tensor cores take: pieces of 16 bytes, 64 queries and 64 keys at a time, 32 of wide heads, of f32 half of them.
        let piece = 16 / element.bytes() as u32;
        let pieces = |r: &mut Draw| {
            let most = 128 / piece;
            piece
                * if wide { r.pick(&[most - 1, most, most + 1, 2 * most]) } else { r.within(1..=72 / piece) }
        };
        let (queries, keys) = (r.edge(&[1, 16, 63, 64, 65], 1..=20), r.edge(&[1, 63, 64, 65, 129], 1..=40));
        (queries, keys, [pieces(r), pieces(r)])
    } else {
        let width = if wide { r.pick(&[129, 256]) } else { r.edge(&[1, 31, 32, 33], 1..=40) };
        let value_width = if wide { r.pick(&[64, 255, 256]) } else { r.edge(&[1, 32, 33, 64], 1..=40) };
        let (queries, keys) = (r.edge(&[1, 15, 16, 17], 1..=9), r.edge(&[1, 31, 32, 33, 65], 1..=20));
        (queries, keys, [width, value_width])
    };
    let (images, packed) = (r.within(1..=2), r.bool());
    let mask = r.bool().then(|| {
        let (by_image, by_head, by_query) = (r.bool(), r.bool(), r.bool());
        let by_key = r.within(0..=3) > 0;
        let told = if r.within(0..=3) == 0 && by_key { r.within(1..=keys) } else { keys };
        let along = if by_key { told } else { 1 };
        let rows = if by_query { queries } else { 1 };
        let strides = Strides {
            image: if by_image { along * rows * if by_head { heads } else { 1 } } else { 0 },
            head: if by_head { along * rows } else { 0 },
            row: if by_query { along } else { 0 },
        };
        let element = r.pick(&[None, Some(Element::F32), Some(Element::F16)]);
        Mask { strides, by_key, keys: told, element }
    });
    let lengths: Option<Vec<i64>> =
        (r.within(0..=3) == 0).then(|| (0..images).map(|_| r.within(0..=keys).into()).collect());
    let window = |r: &mut Draw| if r.within(0..=2) > 0 { UNBOUNDED } else { r.within(0..=9) };
    let shape = Shape {
        element,
        factors,
        images,
        heads,
        kv_heads,
        queries,
        keys,
        width,
        value_width,
        strides: [
            strides(packed, heads, queries, width),
            strides(r.bool(), kv_heads, keys, width),
            strides(r.bool(), kv_heads, keys, value_width),
            strides(packed, heads, queries, value_width),
        ],
        mask,
        past: r.pick(&[0, keys - queries.min(keys)]),
        left: window(r),
        right: if r.bool() { 0 } else { window(r) },
        scale: 1.0 / (width as f32).sqrt(),
        cap: r.pick(&[0.0, 0.0, 1.5]),
    };
    let floats = |r: &mut Draw, heads: u32, rows: u32, width: u32| {
        r.floats(element, (images * heads * rows * width) as usize, 2.0)
    };
    let q = floats(r, heads, queries, width);
    let (k, v) = (floats(r, kv_heads, keys, width), floats(r, kv_heads, keys, value_width));
    let masked = mask.map_or(0, |m| {
        let along = |extent: u32, step: u32| (extent - 1) * step;
        let reach = along(images, m.strides.image) + along(heads, m.strides.head);
        reach + along(queries, m.strides.row) + if m.by_key { m.keys } else { 1 }
    });
    let mut terms = r.floats(Element::F16, masked as usize, 2.0);
    terms.iter_mut().filter(|t| **t < -1.2).for_each(|t| *t = f32::NEG_INFINITY);
    let none = Buffer::default();
    let buffers = Buffers {
        q: lab.upload_floats("q", element, &q)?,
        k: lab.upload_floats("k", element, &k)?,
        v: lab.upload_floats("v", element, &v)?,
        mask: match mask.map(|m| m.element) {
            None => none,
            Some(Some(element)) => lab.upload_floats("mask", element, &terms)?,
            Some(None) => {
                lab.upload("mask", &terms.iter().map(|&t| u8::from(t > -0.5)).collect::<Vec<u8>>())?
            }
        },
        lengths: match &lengths {
            None => none,
            Some(all) => {
                lab.upload("lengths", &all.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>())?
            }
        },
        y: lab.room("y", element.bytes() * u64::from(images * heads * queries * value_width))?,
    };
    let mut rounds = false;
    if let Some(prepared) = shape.prepare(&buffers, &lab.device())? {
        rounds = prepared.kernel().entry.contains("tf32");
        lab.run(prepared)?;
    }
    let factor = |value: f32| if rounds { nearest_tf32(value.into()) } else { value.into() };
    let got = lab.floats(buffers.y, element, 0, (images * heads * queries * value_width) as usize)?;
    let [of_q, of_k, of_v, of_y] = shape.strides;
    for image in 0..images {
        let length = lengths.as_ref().map(|all| all[image as usize]);
        let limit = length.unwrap_or(keys.into());
        let offset = length.map_or(i64::from(shape.past), |n| n - i64::from(queries));
        for head in 0..heads {
            for query in 0..queries {
                let position = offset + i64::from(query);
                let mut scores: Vec<(u32, f64)> = Vec::new();
                for key in 0..keys {
                    let away = i64::from(key) - position;
                    let hidden = i64::from(key) >= limit
                        || (shape.left != UNBOUNDED && -away > i64::from(shape.left))
                        || (shape.right != UNBOUNDED && away > i64::from(shape.right));
                    if hidden {
                        continue;
                    }
                    let (q_at, k_at) = (at(of_q, image, head, query), at(of_k, image, head / group, key));
                    let product = |c: usize| factor(q[q_at + c]) * factor(k[k_at + c]);
                    let mut score = (0..width as usize).map(product).sum::<f64>() * f64::from(shape.scale);
                    let cap = f64::from(shape.cap);
                    if cap > 0.0 {
                        score = cap * (score / cap).tanh();
                    }
                    if let Some(mask) = &mask {
                        let place =
                            at(mask.strides, image, head, query) + if mask.by_key { key as usize } else { 0 };
                        if key >= mask.keys {
                            continue;
                        }
                        let term = f64::from(terms[place]);
                        match mask.element {
                            None if terms[place] > -0.5 => {}
                            Some(_) if term != f64::NEG_INFINITY => score += term,
                            _ => continue,
                        }
                    }
                    scores.push((key, score));
                }
                let most = scores.iter().map(|s| s.1).fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = scores.iter().map(|s| (s.1 - most).exp()).sum();
                for c in 0..value_width as usize {
                    let term = |&(key, score): &(u32, f64)| {
                        (score - most).exp() / total * factor(v[at(of_v, image, head / group, key) + c])
                    };
                    let want: f64 = scores.iter().map(term).sum();
                    // Weights are off by half a unit of tf32.
                    let size: f64 = scores.iter().map(|score| term(score).abs()).sum();
                    let bound = 2f64.powi(-11) * size + 2f64.powi(-17) * (1.0 + want.abs());
                    let got = got[at(of_y, image, head, query) + c];
                    let what = || {
                        format!(
                            "{shape:?}, {lengths:?}: image {image}, head {head}, query {query}, column {c}"
                        )
                    };
                    if !rounds {
                        close(got.into(), want, element, 64.0, what)?;
                    } else if (f64::from(got) - want).abs() > bound || got.is_nan() {
                        return Err(Failure::Wrong(format!("{}: {got} instead of {want}", what())));
                    }
                }
            }
        }
    }
    Ok(())
}
