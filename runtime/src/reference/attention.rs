//! Attention from its specification, with the whole matrix of scores.

use super::tensor::{RefData, RefInputs, RefTensor, RefValue};
use crate::error::OpError;

/// The attributes of an attention.
#[derive(Clone, Debug)]
pub(crate) struct RefAttention {
    /// Heads of queries and of keys where Q, K and V have three axes.
    pub(crate) heads: Option<(usize, usize)>,
    pub(crate) causal: bool,
    pub(crate) left: Option<i64>,
    pub(crate) right: Option<i64>,
    pub(crate) scale: Option<f64>,
    pub(crate) softcap: f64,
    /// What the fourth output shows: `qk_matmul_output_mode`.
    pub(crate) shown: usize,
    /// Whether a mask may be shorter than the keys.
    pub(crate) short_masks: bool,
}

/// `[batch, heads, rows, width]`.
struct Heads {
    shape: [usize; 4],
    data: Vec<f64>,
}

impl Heads {
    fn new(tensor: &RefTensor, heads: Option<usize>) -> Result<Self, OpError> {
        let data = tensor.as_floats()?;
        let (&[b, rows, hidden], Some(h)) = (&tensor.shape[..], heads) else {
            let shape = <[usize; 4]>::try_from(&tensor.shape[..]);
            let shape = shape.map_err(|_| OpError::internal("an operand of neither 3 nor 4 axes"))?;
            return Ok(Self { shape, data: data.to_vec() });
        };
        let w = hidden / h;
        let mut out = Vec::with_capacity(data.len());
        for image in 0..b {
            for head in 0..h {
                for row in 0..rows {
                    out.extend_from_slice(&data[((image * rows + row) * h + head) * w..][..w]);
                }
            }
        }
        Ok(Self { shape: [b, h, rows, w], data: out })
    }

    fn row(&self, b: usize, h: usize, i: usize) -> &[f64] {
        let [_, heads, rows, width] = self.shape;
        &self.data[((b * heads + h) * rows + i) * width..][..width]
    }

    /// With the rows of `past` before these.
    fn after(self, past: Option<&RefTensor>) -> Result<Self, OpError> {
        let Some(past) = past else { return Ok(self) };
        let past = Self::new(past, None)?;
        let [batch, heads, rows, width] = self.shape;
        let before = past.shape[2];
        let mut data = Vec::new();
        for b in 0..batch {
            for h in 0..heads {
                (0..before).for_each(|i| data.extend_from_slice(past.row(b, h, i)));
                (0..rows).for_each(|i| data.extend_from_slice(self.row(b, h, i)));
            }
        }
        Ok(Self { shape: [batch, heads, before + rows, width], data })
    }
}

impl RefAttention {
    /// Y, the keys and values with those of the cache, and the scores at the stage asked for.
    pub(crate) fn run(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (q, k, v) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.tensor(2)?);
        let packed = q.shape.len() == 3;
        let (past_key, past_value) = (inputs.optional(4)?, inputs.optional(5)?);
        let queries = Heads::new(q, self.heads.map(|h| h.0).filter(|_| packed))?;
        let kv_heads = self.heads.map(|h| h.1).filter(|_| packed);
        let keys = Heads::new(k, kv_heads)?.after(past_key)?;
        let values = Heads::new(v, kv_heads)?.after(past_value)?;
        let lengths = inputs.optional(6)?.map(RefTensor::to_i64s).transpose()?;
        let past = past_key.map_or(0, |p| p.shape[2]) as i64;
        let [batch, heads, rows, width] = queries.shape;
        let (total, value_width) = (keys.shape[2], values.shape[3]);
        let group = heads / keys.shape[1];
        let scale = self.scale.unwrap_or_else(|| 1.0 / (width as f64).sqrt());
        let (mut y, mut shown) = (vec![0.0; batch * heads * rows * value_width], Vec::new());
        for at in 0..batch * heads * rows {
            let (b, h, i) = (at / (heads * rows), at / rows % heads, at % rows);
            let length = lengths.as_ref().map(|n| n[b]);
            let position = i as i64 + length.map_or(past, |n| n - rows as i64);
            let query = queries.row(b, h, i);
            let product = |j: usize| {
                let key = keys.row(b, h / group, j);
                scale * query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>()
            };
            let products: Vec<f64> = (0..total).map(product).collect();
            let cap = |s: &f64| {
                if self.softcap > 0.0 { self.softcap * (s / self.softcap).tanh() } else { *s }
            };
            let capped: Vec<f64> = products.iter().map(cap).collect();
            let mut bias = Vec::with_capacity(total);
            for j in 0..total {
                let mut term = match inputs.optional(3)? {
                    Some(mask) => self.mask(mask, &[b, h, i, j])?,
                    None => 0.0,
                };
                let distance = j as i64 - position;
                let hidden = self.causal && distance > 0
                    || self.left.is_some_and(|left| distance < -left)
                    || self.right.is_some_and(|right| distance > right)
                    || length.is_some_and(|n| j as i64 >= n);
                if hidden {
                    term += f64::NEG_INFINITY;
                }
                bias.push(term);
            }
            let biased: Vec<f64> = capped.iter().zip(&bias).map(|(s, b)| s + b).collect();
            let masked = bias.iter().all(|b| *b == f64::NEG_INFINITY);
            let most = biased.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let exps: Vec<f64> = biased.iter().map(|s| if masked { 0.0 } else { (s - most).exp() }).collect();
            let sum: f64 = exps.iter().sum();
            let weights: Vec<f64> = exps.iter().map(|e| if masked { 0.0 } else { e / sum }).collect();
            let to = if packed { (b * rows + i) * heads + h } else { at };
            for (j, weight) in weights.iter().enumerate() {
                let value = values.row(b, h / group, j);
                let to = &mut y[to * value_width..][..value_width];
                to.iter_mut().zip(value).for_each(|(y, v)| *y += weight * v);
            }
            shown.extend_from_slice([&products, &capped, &biased, &weights][self.shown]);
        }
        let y_shape: Vec<usize> = if packed {
            vec![batch, rows, heads * value_width]
        } else {
            vec![batch, heads, rows, value_width]
        };
        Ok(vec![
            RefTensor::floats(q.dtype, &y_shape, y).into(),
            RefTensor::floats(q.dtype, &keys.shape, keys.data).into(),
            RefTensor::floats(v.dtype, &values.shape, values.data).into(),
            RefTensor::floats(q.dtype, &[batch, heads, rows, total], shown).into(),
        ])
    }

    /// What the mask adds to the score at `index`.
    fn mask(&self, mask: &RefTensor, index: &[usize; 4]) -> Result<f64, OpError> {
        let last = mask.shape.last().copied().unwrap_or(1);
        if self.short_masks && index[3] >= last {
            return Ok(f64::NEG_INFINITY);
        }
        let at = if self.short_masks {
            let lead = RefTensor::broadcast_position(&mask.shape[..mask.shape.len() - 1], &index[..3]);
            lead * last + index[3]
        } else {
            RefTensor::broadcast_position(&mask.shape, index)
        };
        Ok(match &mask.data {
            RefData::Float(v) => v[at],
            RefData::Int(v) => v[at] as f64,
            RefData::Bool(v) if v[at] => 0.0,
            RefData::Bool(_) => f64::NEG_INFINITY,
            RefData::Text(_) => return Err(OpError::internal("a mask of text")),
        })
    }
}
