//! Deterministic random draws for operator cases.

use crate::dtype::DType;
use crate::reference::RefTensor;
use crate::tensor::Tensor;

/// A stream of random draws from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Gen {
    state: u64,
}

impl Gen {
    /// A stream for `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed ^ 0x9e37_79b9_7f4a_7c15 }
    }

    /// Next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `low..=high`.
    pub fn int(&mut self, low: i64, high: i64) -> i64 {
        let span = (i128::from(high) - i128::from(low) + 1) as u128;
        (i128::from(low) + (u128::from(self.bits()) % span) as i128) as i64
    }

    /// Uniform in `low..=high`.
    pub fn size(&mut self, low: usize, high: usize) -> usize {
        self.int(low as i64, high as i64) as usize
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn float(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// One of `items`, which must not be empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.size(0, items.len() - 1)]
    }

    /// An extent: often small, sometimes 0, 1, odd or prime.
    pub fn extent(&mut self) -> usize {
        *self.pick(&[0, 1, 1, 2, 3, 3, 4, 5, 7, 8, 9, 13, 16, 17])
    }

    /// An extent of at least 1.
    pub fn positive_extent(&mut self) -> usize {
        self.extent().max(1)
    }

    /// A shape of `rank` axes, mostly without zero extents.
    pub fn shape(&mut self, rank: usize) -> Vec<usize> {
        let zeros = self.chance(0.1);
        (0..rank).map(|_| if zeros { self.extent() } else { self.positive_extent().min(9) }).collect()
    }

    /// A permutation of `0..n`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut p: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            p.swap(i, self.size(0, i));
        }
        p
    }

    /// `shape` with some extents replaced by 1 and some leading ones left out: it broadcasts to `shape`.
    pub fn broadcastable(&mut self, shape: &[usize]) -> Vec<usize> {
        let keep = if self.chance(0.3) { self.size(0, shape.len()) } else { shape.len() };
        shape[shape.len() - keep..].iter().map(|&d| if self.chance(0.25) { 1 } else { d }).collect()
    }

    /// An axis of `rank`, negative half the time.
    pub fn axis(&mut self, rank: usize) -> i64 {
        let axis = self.int(0, rank as i64 - 1);
        if self.chance(0.5) { axis - rank as i64 } else { axis }
    }

    /// A tensor of `dtype` with elements that suit it: floats in [-2, 2), integers over a small range with
    /// now and then an extreme one.
    pub fn tensor(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        self.tensor_in(dtype, shape, -2.0, 2.0)
    }

    /// A tensor of `dtype` whose floats are uniform in [low, high); integers in that range too, as far as the
    /// type goes.
    pub fn tensor_in(&mut self, dtype: DType, shape: &[usize], low: f64, high: f64) -> Tensor {
        let n: usize = shape.iter().product();
        let made = if dtype.is_float() {
            let data = (0..n).map(|_| self.float(low, high)).collect();
            RefTensor::floats(dtype, shape, data)
        } else if dtype == DType::Bool {
            RefTensor::bools(shape, (0..n).map(|_| self.chance(0.5)).collect())
        } else {
            let (least, most) = (low.floor() as i64, high.ceil() as i64);
            let least = if dtype.is_signed_int() { least } else { least.max(0) };
            RefTensor::wrapped(
                dtype,
                shape,
                (0..n).map(|_| i128::from(self.int(least, most.max(least)))).collect(),
            )
        };
        // Only dtypes of the classes above are drawn; any other falls back to an empty byte tensor, which no
        // operator case uses.
        made.to_tensor().unwrap_or_else(|_| Tensor::scalar(0u8))
    }

    /// A tensor of `dtype` over the whole range of the type, extremes included.
    pub fn any_tensor(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        if dtype == DType::String {
            let n: usize = shape.iter().product();
            let text = (0..n).map(|_| format!("{:x}", self.bits() >> self.size(0, 63))).collect();
            return Tensor::strings(shape, text).unwrap_or_else(|_| Tensor::scalar(0u8));
        }
        if dtype.is_int() {
            let n: usize = shape.iter().product();
            let data = (0..n).map(|_| i128::from(self.bits() as i64) >> self.size(0, 63)).collect();
            return RefTensor::wrapped(dtype, shape, data)
                .to_tensor()
                .unwrap_or_else(|_| Tensor::scalar(0u8));
        }
        self.tensor_in(dtype, shape, -10.0, 10.0)
    }
}
