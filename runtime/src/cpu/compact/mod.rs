//! Weights of `f32` in 28 bits instead of 32, without loss: where a matrix is read from memory once for every use, its
//! bytes are its time.
//!
//! The sign and the 23 bits of the fraction are kept as they are. The 8 bits of the exponent become 4: a code of 1 to 15
//! stands for the exponent `floor + code`, 0 for a zero, where `floor` belongs to the panel and is chosen such that the
//! fewest weights lie outside. Those that do, and infinities and NaN, lie apart with their places and stand as zeros
//! among the others. Of weights that are drawn evenly 1 in 30,000 lies apart.
//!
//! A block is 16 weights in 56 bytes: of each weight three bytes, the fraction's 23 bits and the sign above them, then
//! eight bytes with the codes of weights `i` and `8 + i` in the lower and the upper half of byte `i`.
//!
//! Vector code leaves the codes where the exponent belongs, which stands for `w · 2^-floor`, and multiplies what
//! the weight is multiplied with by `2^floor`: each product is that of the weight itself, rounded no differently. Where
//! that factor makes something infinite, sums are none that are finite, and are taken once more, weight by weight.

#[cfg(not(target_arch = "x86_64"))]
mod absent;
#[cfg(target_arch = "x86_64")]
mod wide;

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use absent::Decoder;
#[cfg(target_arch = "x86_64")]
pub(crate) use wide::Decoder;

use crate::error::OpError;
use crate::memory::{Budget, Buffer, Charge};
use std::ops::Range;

/// Weights of a block.
pub(crate) const LANES: usize = 16;
/// Bytes of a block.
const BLOCK: usize = 56;
/// Bytes that a vector load reads beyond a block.
const SLACK: usize = 8;
/// The largest code.
const MOST: usize = 15;
/// Largest floor: `2^floor` is a number.
const LARGEST_FLOOR: usize = 126;
/// Of so many weights one may lie apart.
const APART: usize = 1 << 10;
/// Sums over every other line, added at the end, as the product of panels of floats has them.
const CHAINS: usize = 2;

/// A weight whose exponent has no code.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Apart {
    /// Its number among all.
    at: u32,
    weight: f32,
}

/// Weights of a panel that lie apart, in their order.
#[derive(Clone, Copy, Debug)]
struct ApartOf<'a> {
    apart: &'a [Apart],
    /// The number of the panel's first weight.
    first: usize,
}

impl ApartOf<'_> {
    /// The line and the column, of `W`, of weight `index` of them, and the weight.
    fn get<const W: usize>(self, index: usize) -> Option<(usize, usize, f32)> {
        let Apart { at, weight } = *self.apart.get(index)?;
        let at = at as usize - self.first;
        Some((at / W, at % W, weight))
    }
}

/// Panels of one width and depth.
#[derive(Debug)]
pub(crate) struct CompactPanels {
    decoder: Decoder,
    width: usize,
    depth: usize,
    blocks: Buffer,
    /// Of each panel.
    floors: Vec<u8>,
    /// In the order of their numbers, at most `room`.
    apart: Vec<Apart>,
    room: usize,
    _charge: Charge,
}

/// Some of the panels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compact<'a> {
    of: &'a CompactPanels,
    /// The first panel, and how many.
    first: usize,
    count: usize,
}

impl CompactPanels {
    /// Room for panels of `depth` lines of `width` weights, `count` of them, fewer than 2³² weights in all; `width` is a
    /// multiple of [`LANES`].
    pub(crate) fn new(
        decoder: Decoder,
        (width, depth): (usize, usize),
        count: usize,
        budget: &Budget,
    ) -> Result<Self, OpError> {
        let weights = width.checked_mul(depth).and_then(|each| each.checked_mul(count));
        let weights =
            weights.filter(|weights| u32::try_from(*weights).is_ok()).ok_or_else(|| budget.overflow())?;
        let (bytes, room) = (weights / LANES * BLOCK + SLACK, weights / APART + LANES);
        let blocks = Buffer::zeroed(bytes, budget)?;
        let charge = budget.charge(room * size_of::<Apart>())?;
        let (floors, apart) = (vec![0; count], Vec::with_capacity(room));
        Ok(Self { decoder, width, depth, blocks, floors, apart, room, _charge: charge })
    }

    /// Takes panel `index`, the panels one after the other; `false` where too many of the weights so far have no code.
    pub(crate) fn set(&mut self, index: usize, panel: &[f32]) -> bool {
        let floor = floor_of(panel);
        self.floors[index] = floor as u8;
        let bytes = panel.len() / LANES * BLOCK;
        let blocks = self.blocks.bytes_mut()[index * bytes..(index + 1) * bytes].as_chunks_mut().0;
        let first = index * panel.len();
        for (number, (weights, block)) in panel.as_chunks::<LANES>().0.iter().zip(blocks).enumerate() {
            for lane in encode(weights, floor, block) {
                if self.apart.len() == self.room {
                    return false;
                }
                let at = (first + number * LANES + lane) as u32;
                self.apart.push(Apart { at, weight: weights[lane] });
            }
        }
        true
    }

    /// What lies apart of panel `index`.
    fn apart_of(&self, index: usize) -> ApartOf<'_> {
        let size = self.width * self.depth;
        let [begin, end] = [index, index + 1]
            .map(|panel| self.apart.partition_point(|apart| (apart.at as usize) < panel * size));
        ApartOf { apart: &self.apart[begin..end], first: index * size }
    }

    /// All panels.
    pub(crate) fn all(&self) -> Compact<'_> {
        Compact { of: self, first: 0, count: self.floors.len() }
    }
}

impl Compact<'_> {
    /// The panels that hold the weights of numbers `elements`, whole panels of them.
    pub(crate) fn part(self, elements: Range<usize>) -> Self {
        let panel = (self.of.width * self.of.depth).max(1);
        let [first, end] = [elements.start, elements.end].map(|at| (at / panel).min(self.count));
        Self { first: self.first + first, count: end - first, ..self }
    }

    /// `sums[c] += Σ_k operand[k] · w[k][c]` of panel `index`, to the bit as panels of floats give it: each weight is added
    /// in its turn, also where it lies apart. `next` is the panel after it, whose first lines are asked for.
    pub(crate) fn add<const W: usize>(
        self,
        (index, next): (usize, Option<usize>),
        operand: &[f32],
        sums: &mut [f32; W],
    ) {
        let (of, index) = (self.of, self.first + index);
        let each = of.width / LANES * BLOCK * of.depth;
        let blocks = |index: usize| &of.blocks.bytes()[index * each..(index + 1) * each + SLACK];
        let after = blocks(next.map_or(index, |next| self.first + next));
        let (blocks, floor) = (blocks(index), i32::from(of.floors[index]));
        let apart = of.apart_of(index);
        let start = *sums;
        of.decoder.add([blocks, after], scale(floor), (operand, apart), sums);
        if !sums.iter().all(|sum| sum.is_finite()) {
            *sums = one_by_one(blocks, floor, (operand, apart), start);
        }
    }
}

/// `2^floor`.
fn scale(floor: i32) -> f32 {
    f32::from_bits(((127 + floor) as u32) << 23)
}

/// The exponent, with its bias.
fn exponent(weight: f32) -> usize {
    (weight.to_bits() >> 23 & 255) as usize
}

/// The floor that gives most of the weights a code.
fn floor_of(panel: &[f32]) -> usize {
    let mut counts = [0usize; 256];
    panel.iter().for_each(|&weight| counts[exponent(weight)] += 1);
    // Zeros have a code in any case, and what has an exponent of 255 never has.
    let coded = |floor: usize| counts[floor + 1..=(floor + MOST).min(254)].iter().sum::<usize>();
    (0..=LARGEST_FLOOR).max_by_key(|&floor| coded(floor)).unwrap_or(0)
}

/// Writes a block and gives the lanes whose weights have no code.
fn encode(
    weights: &[f32; LANES],
    floor: usize,
    block: &mut [u8; BLOCK],
) -> impl Iterator<Item = usize> + use<> {
    let mut left = 0u32;
    let (kept, codes) = block.split_at_mut(3 * LANES);
    codes.fill(0);
    for (lane, (&weight, kept)) in weights.iter().zip(kept.as_chunks_mut::<3>().0).enumerate() {
        let (bits, code) = (weight.to_bits(), exponent(weight).wrapping_sub(floor));
        let coded = (1..=MOST).contains(&code) && exponent(weight) < 255;
        let bits = if coded { bits } else { bits & 1 << 31 };
        let [low, middle, high, _] = ((bits & 0x7f_ffff) | bits >> 31 << 23).to_le_bytes();
        *kept = [low, middle, high];
        if coded {
            codes[lane % 8] |= (code as u8) << (lane / 8 * 4);
        } else if weight != 0.0 {
            left |= 1 << lane;
        }
    }
    (0..LANES).filter(move |lane| left >> lane & 1 == 1)
}

/// Weight `lane` of a block.
fn decode(block: &[u8; BLOCK], lane: usize, floor: i32) -> f32 {
    let kept = [block[3 * lane], block[3 * lane + 1], block[3 * lane + 2], 0];
    let bits = u32::from_le_bytes(kept);
    let code = u32::from(block[3 * LANES + lane % 8] >> (lane / 8 * 4) & 15);
    let exponent = if code == 0 { 0 } else { code + floor as u32 };
    f32::from_bits(bits >> 23 << 31 | exponent << 23 | bits & 0x7f_ffff)
}

/// [`Decoder::add`] without vectors and factors.
fn one_by_one<const W: usize>(
    blocks: &[u8],
    floor: i32,
    (operand, apart): (&[f32], ApartOf<'_>),
    start: [f32; W],
) -> [f32; W] {
    let mut acc = [start, [0.0; W]];
    let mut left = (0..).map_while(|index| apart.get::<W>(index)).peekable();
    for ((k, line), x) in blocks.chunks_exact(W / LANES * BLOCK).enumerate().zip(operand) {
        let acc = &mut acc[k % CHAINS];
        for (block, sums) in line.as_chunks::<BLOCK>().0.iter().zip(acc.as_chunks_mut::<LANES>().0) {
            for (lane, sum) in sums.iter_mut().enumerate() {
                *sum = x.mul_add(decode(block, lane, floor), *sum);
            }
        }
        while let Some((_, column, weight)) = left.next_if(|(line, ..)| *line == k) {
            acc[column] = x.mul_add(weight, acc[column]);
        }
    }
    std::array::from_fn(|column| acc[0][column] + acc[1][column])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Gen;

    const DEPTH: usize = 37;

    /// Panels of weights, one line of `W` behind the other, where the processor can read them.
    fn packed<const W: usize>(panels: &[Vec<f32>]) -> Option<CompactPanels> {
        let decoder = Decoder::detect()?;
        let mut packed =
            CompactPanels::new(decoder, (W, DEPTH), panels.len(), &Budget::new(1 << 24)).expect("small");
        panels.iter().enumerate().for_each(|(index, panel)| {
            packed.set(index, panel);
        });
        Some(packed)
    }

    fn drawn(g: &mut Gen, count: usize, size: f64) -> Vec<f32> {
        (0..count).map(|_| (g.float(-1.0, 1.0) * size) as f32).collect()
    }

    #[test]
    fn every_weight_comes_back_or_lies_apart() {
        let mut g = Gen::new(3);
        let odd = [0.0, -0.0, f32::MIN_POSITIVE / 8.0, f32::INFINITY, f32::NAN, f32::MAX, 1e-30, -3.5];
        for round in 0..200 {
            let size = 10f64.powf(g.float(-12.0, 12.0));
            let mut weights: [f32; LANES] = drawn(&mut g, LANES, size).try_into().expect("a block");
            if round % 2 == 0 {
                weights[g.size(0, LANES - 1)] = odd[round / 2 % odd.len()];
            }
            let (floor, mut block) = (floor_of(&weights), [255; BLOCK]);
            let apart: Vec<usize> = encode(&weights, floor, &mut block).collect();
            for (lane, weight) in weights.iter().enumerate() {
                let got = decode(&block, lane, floor as i32);
                if apart.contains(&lane) {
                    assert_eq!(got, 0.0, "{weight}");
                    let code = exponent(*weight) as i64 - floor as i64;
                    assert!(!(1..=15).contains(&code) || exponent(*weight) == 255, "{weight} has a code");
                } else {
                    assert_eq!(got.to_bits(), weight.to_bits(), "{weight} with floor {floor}");
                }
            }
        }
    }

    fn sums_are_those_of_the_weights<const W: usize>() {
        let mut g = Gen::new(W as u64);
        for round in 0..12 {
            let mut panels: Vec<Vec<f32>> = Vec::new();
            for panel in 0..3 {
                let size = 10f64.powi(panel - 2);
                let mut weights = drawn(&mut g, W * DEPTH, size);
                for odd in [0.0, -0.0, 1e-25, 1e-41, size as f32 * 1e6] {
                    weights[g.size(0, W * DEPTH - 1)] = odd;
                }
                panels.push(weights);
            }
            let Some(packed) = packed::<W>(&panels) else { return };
            // What the factor makes infinite, and what is so before.
            let mut operand = drawn(&mut g, DEPTH, if round % 3 == 1 { 1e30 } else { 1.0 });
            if round % 3 == 2 {
                operand[round] = f32::INFINITY;
            }
            let start = drawn(&mut g, W, 1.0);
            let per = W * DEPTH;
            for (view, first) in [(packed.all(), 0), (packed.all().part(per..3 * per).part(per..2 * per), 2)]
            {
                let mut sums: [f32; W] = start.clone().try_into().expect("a line");
                view.add((0, (round % 2 == 0).then_some(0)), &operand, &mut sums);
                for (column, sum) in sums.iter().enumerate() {
                    let terms = operand.iter().enumerate();
                    let terms = terms.map(|(k, x)| f64::from(*x) * f64::from(panels[first][k * W + column]));
                    let (want, size) = terms.fold((f64::from(start[column]), 1.0), |(sum, size), term| {
                        (sum + term, size + term.abs())
                    });
                    let near = (f64::from(*sum) - want).abs() <= 1e-5 * size;
                    let alike = f64::from(*sum) == want || sum.is_nan() && want.is_nan();
                    assert!(near || alike, "{round} {first} {column}: {sum} instead of {want}");
                }
            }
        }
    }

    #[test]
    fn sums_are_those_of_the_weights_in_all_widths() {
        sums_are_those_of_the_weights::<48>();
        sums_are_those_of_the_weights::<64>();
    }

    #[test]
    fn weights_of_all_sizes_are_left_as_they_are() {
        let Some(decoder) = Decoder::detect() else { return };
        let mut g = Gen::new(9);
        let panel: Vec<f32> = (0..64 * 64).map(|_| 10f64.powf(g.float(-30.0, 30.0)) as f32).collect();
        let packed = || CompactPanels::new(decoder, (64, 64), 1, &Budget::new(1 << 24)).expect("small");
        assert!(!packed().set(0, &panel), "most have no code");
        assert!(packed().set(0, &[0.5; 64 * 64]));
    }
}
