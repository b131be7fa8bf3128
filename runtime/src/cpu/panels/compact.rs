//! Compact panels by rows, each for itself: they are made where there is one.

use super::Product;
use crate::cpu::compact::Compact;
use crate::cpu::number::Float;
use crate::cpu::stored::{same, same_mut};

/// Multiplies `rows` rows with `count` panels of `f32`.
pub(super) fn sweep<F: Float, const W: usize>(
    panels: Compact<'_>,
    (count, backwards): (usize, bool),
    rows: usize,
    product: &mut impl Product<F, W>,
) {
    let index = |turn: usize| if backwards { count - 1 - turn } else { turn };
    for turn in 0..count {
        for row in 0..rows {
            let next = (turn + 1 < count).then(|| index(turn + 1));
            if let Some(next) = next {
                product.fetch(next, row);
            }
            let mut sums = [F::zero(); W];
            product.start(index(turn), row, &mut sums);
            let to = same_mut::<F, f32>(&mut sums).and_then(|sums| <&mut [f32; W]>::try_from(sums).ok());
            if let (Some(operand), Some(sums)) = (same::<F, f32>(product.operand(row)), to) {
                panels.add((index(turn), next), operand, sums);
            }
            product.finish(index(turn), row, &mut sums);
        }
    }
}
