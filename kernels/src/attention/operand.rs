//! What differs between the types that tensor cores attend over: how weights become factors of the second product, how
//! values do, and how two neighbours of Y are stored.

use crate::device::{BF16, F16, Float16, Plain, Shared, mma, warp};
use crate::gemm::frame::Factor;
use crate::gemm::tf32::Tf32;

/// Factors of both products. A product takes `Factor::STEP / 2` terms: that many elements of a head in the first one, that
/// many keys in the second.
pub(super) trait Operand: Factor {
    /// Two neighbouring elements of Y in memory.
    type Pair: Plain;

    /// The elements nearest to two sums, the first one in the lower half.
    fn pair(low: f32, high: f32) -> Self::Pair;

    /// The left fragment of product `number` of a warp's weights: sums of the first product are where factors of the second
    /// one are wanted.
    fn weights<const KEYS: usize>(of_keys: &[[f32; 4]; KEYS], number: usize) -> [u32; 4];

    /// The right fragments of two products, of 8 columns each, from column and key `at` of values on whose rows lie `pitch`
    /// elements apart. Terms are the keys in the order that `weights` has them in.
    fn values(stage: Shared<Self::Bits>, pitch: u32, at: [u32; 2]) -> [[u32; 2]; 2];
}

macro_rules! operand {
    ($($t:ty),*) => { $(
        impl Operand for $t {
            type Pair = u32;

            #[inline(always)]
            fn pair(low: f32, high: f32) -> u32 {
                <$t as Float16>::pair(low, high)
            }

            #[inline(always)]
            fn weights<const KEYS: usize>(of_keys: &[[f32; 4]; KEYS], number: usize) -> [u32; 4] {
                let [left, right] = [&of_keys[2 * number], &of_keys[2 * number + 1]];
                let pair = <$t as Float16>::pair;
                [pair(left[0], left[1]), pair(left[2], left[3]), pair(right[0], right[1]), pair(right[2], right[3])]
            }

            #[inline(always)]
            fn values(stage: Shared<u16>, pitch: u32, at: [u32; 2]) -> [[u32; 2]; 2] {
                let [v0, v1, v2, v3] = Self::matrices::<true>(stage, pitch, at, true);
                [[v0, v1], [v2, v3]]
            }
        }
    )* };
}

operand!(F16, BF16);

/// A lane has the weights of keys `2·member` and `2·member + 1`, and tf32 wants those of terms `member` and `member + 4`: so
/// the even keys are the first four terms and the odd ones the others. `ldmatrix` turns no words, each lane reads its own;
/// rows that are 4 words longer than a multiple of 32 put the 32 of a warp into different banks.
impl Operand for Tf32 {
    type Pair = u64;

    #[inline(always)]
    fn pair(low: f32, high: f32) -> u64 {
        u64::from(low.to_bits()) | u64::from(high.to_bits()) << 32
    }

    #[inline(always)]
    fn weights<const KEYS: usize>(of_keys: &[[f32; 4]; KEYS], number: usize) -> [u32; 4] {
        let [even, odd, even_below, odd_below] = of_keys[number];
        let factor = |weight: f32| mma::to_tf32(weight.to_bits());
        [factor(even), factor(even_below), factor(odd), factor(odd_below)]
    }

    #[inline(always)]
    fn values(stage: Shared<u32>, pitch: u32, [column, key]: [u32; 2]) -> [[u32; 2]; 2] {
        let (group, member) = (warp::lane_id() / 4, warp::lane_id() % 4);
        let first = stage.offset(((key + 2 * member) * pitch + column + group) as usize);
        let own = |odd: u32, right: u32| mma::to_tf32(first.load((odd * pitch + 8 * right) as usize));
        [[own(0, 0), own(1, 0)], [own(0, 1), own(1, 1)]]
    }
}
