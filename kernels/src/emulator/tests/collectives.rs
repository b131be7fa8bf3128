//! Shuffles, votes and matrix products, and the masks that they are called with.

use super::{Bench, block};
use crate::device::{BF16, F16, Float16, Global, Plain, barrier, mma, shared, thread, warp, wgmma};
use crate::emulator::{Fault, Instead, MaskProblem, Meeting};

#[test]
fn shuffles_and_votes_give_what_other_lanes_have() {
    let bench = Bench::new(64 * 6, 0);
    bench
        .run(block(64), |y| {
            let (i, lane) = (thread::thread_idx_x() as usize, warp::lane_id());
            let value = 100 * warp::warp_id() + lane;
            y.store(6 * i, warp::shuffle_xor(warp::ALL, value, 3));
            y.store(6 * i + 1, warp::shuffle_up(warp::ALL, value, 2));
            y.store(6 * i + 2, warp::shuffle(warp::ALL, warp::Source::Down, value, 1, 8));
            y.store(6 * i + 3, warp::shuffle_idx(warp::ALL, value, 31));
            y.store(6 * i + 4, warp::ballot(warp::ALL, lane % 3 == 0));
            let odd_sum = warp::reduce(f32::from_bits(Plain::to_bits(lane as f32) as u32), |a, b| a + b);
            let votes =
                u32::from(warp::any(warp::ALL, lane == 7)) + 2 * u32::from(warp::all(warp::ALL, lane < 31));
            y.store(6 * i + 5, odd_sum as u32 * 10 + votes);
        })
        .expect("no report");
    let y = bench.content();
    let thirds = (0..32u32).filter(|l| l % 3 == 0).fold(0, |b, l| b | 1 << l);
    for i in 0..64u32 {
        let (warp, lane) = (100 * (i / 32), i % 32);
        let want = [
            warp + (lane ^ 3),
            warp + if lane < 2 { lane } else { lane - 2 },
            warp + if lane % 8 == 7 { lane } else { lane + 1 },
            warp + 31,
            thirds,
            4961,
        ];
        assert_eq!(y[6 * i as usize..][..6], want, "thread {i}");
    }
}

#[test]
fn shuffles_with_lanes_that_take_no_part_are_caught() {
    let bench = Bench::new(32, 32);
    let fault = bench.fault(block(32), |_| {
        if warp::lane_id() < 16 {
            warp::shuffle_xor(warp::ALL, 1u32, 1);
        }
    });
    assert!(
        matches!(fault, Fault::Divergence { kind: Meeting::Shuffle, instead: Instead::Left, .. }),
        "{fault}"
    );
    let half = |mask: u32, distance: u32| {
        move |x: Global<u32>| {
            if warp::lane_id() < 16 {
                x.store(warp::lane_id() as usize, warp::shuffle_xor(mask, 1u32, distance));
            }
        }
    };
    bench.run(block(32), half(0xffff, 8)).expect("no report");
    let fault = bench.fault(block(32), half(0xffff, 16));
    assert_eq!(fault, Fault::InactiveSource { lane: 16 });
    let fault = bench.fault(block(32), half(0xff, 1));
    assert!(matches!(fault, Fault::Mask { problem: MaskProblem::CallerMissing, .. }), "{fault}");
    let fault = bench.fault(block(16), half(warp::ALL, 1));
    assert!(matches!(fault, Fault::Mask { problem: MaskProblem::NoSuchLane, .. }), "{fault}");
    let fault = bench.fault(block(32), |_| {
        if warp::lane_id() == 9 {
            warp::sync(warp::ALL);
        } else {
            warp::shuffle_xor(warp::ALL, 1u32, 1);
        }
    });
    assert!(matches!(fault, Fault::Divergence { instead: Instead::Waits(_), .. }), "{fault}");
}

#[test]
fn named_barriers_order_producers_and_consumers() {
    let bench = Bench::new(32, 32);
    let hand_over = |barriers: bool| {
        move |x: Global<u32>| {
            let (tile, lane) = (shared::array::<u32>(0, 32), warp::lane_id() as usize);
            if warp::warp_id() == 0 {
                tile.store(lane, 7);
                if barriers {
                    barrier::arrive(1, 64);
                }
            } else {
                if barriers {
                    barrier::sync(1, 64);
                }
                x.store(lane, tile.load(31 - lane));
            }
        }
    };
    bench.run(block(64), hand_over(true)).expect("no report");
    assert_eq!(bench.content(), [7; 32]);
    assert!(matches!(bench.fault(block(64), hand_over(false)), Fault::Race { .. }));
}

fn number(row: usize, column: usize) -> f32 {
    ((row * 7 + column * 3) % 11) as f32 - 5.0
}

/// `A · B + C` of small whole numbers, which every format holds, from fragments laid out by hand.
fn product<T: Float16>(multiply: fn([u32; 4], [u32; 2], [f32; 4]) -> [f32; 4]) {
    let bench = Bench::new(128, 0);
    bench
        .run(block(32), |y| {
            let (group, member) = (warp::lane_id() as usize / 4, warp::lane_id() as usize % 4);
            let pair = |low: f32, high: f32| {
                u32::from(T::from_f32(low).bits16()) | u32::from(T::from_f32(high).bits16()) << 16
            };
            let a = |i: usize| {
                let (row, column) = (group + 8 * (i % 2), 2 * member + 8 * (i / 2));
                pair(number(row, column), number(row, column + 1))
            };
            let b = |i: usize| {
                let row = 2 * member + 8 * i;
                pair(number(row, group + 1), number(row + 1, group + 1))
            };
            let d = multiply([a(0), a(1), a(2), a(3)], [b(0), b(1)], [1.0; 4]);
            for (i, value) in d.into_iter().enumerate() {
                let (row, column) = (group + 8 * (i / 2), 2 * member + i % 2);
                y.cast::<f32>().store(8 * row + column, value);
            }
        })
        .expect("no report");
    check_product(&bench, 16);
}

fn check_product(bench: &Bench, depth: usize) {
    let y = bench.content();
    for row in 0..16 {
        for column in 0..8 {
            let sum: f32 = (0..depth).map(|k| number(row, k) * number(k, column + 1)).sum();
            assert_eq!(f32::from_bits(y[8 * row + column]), 1.0 + sum, "row {row}, column {column}");
        }
    }
}

#[test]
fn products_of_a_warp_follow_the_fragments() {
    product::<F16>(mma::m16n8k16_f16);
    product::<BF16>(mma::m16n8k16_bf16);
    let bench = Bench::new(128, 0);
    bench
        .run(block(32), |y| {
            let (group, member) = (warp::lane_id() as usize / 4, warp::lane_id() as usize % 4);
            let a = |i: usize| number(group + 8 * (i % 2), member + 4 * (i / 2)).to_bits();
            let b = |i: usize| number(member + 4 * i, group + 1).to_bits();
            let d = mma::m16n8k8_tf32([a(0), a(1), a(2), a(3)], [b(0), b(1)], [1.0; 4]);
            for (i, value) in d.into_iter().enumerate() {
                let (row, column) = (group + 8 * (i / 2), 2 * member + i % 2);
                y.cast::<f32>().store(8 * row + column, value);
            }
        })
        .expect("no report");
    check_product(&bench, 8);
    let fault = bench.fault(block(32), |_| {
        if warp::lane_id() < 31 {
            mma::m16n8k16_f16([0; 4], [0; 2], [0.0; 4]);
        }
    });
    assert!(matches!(fault, Fault::Divergence { kind: Meeting::Matrix, .. }), "{fault}");
}

#[test]
fn tf32_is_rounded_to_ten_bits_halves_away_from_zero() {
    let (unit, half) = (2f32.powi(-10), 2f32.powi(-11));
    let cases = [
        (1.0 + half, 1.0 + unit),
        (-1.0 - half, -1.0 - unit),
        (1.0 + half * (1.0 - 2f32.powi(-12)), 1.0),
        (2.0 - 2f32.powi(-23), 2.0),
        (f32::from_bits(0x1fff), f32::from_bits(0x2000)),
        (-0.0, -0.0),
        (f32::MAX, f32::INFINITY),
        (f32::NEG_INFINITY, f32::NEG_INFINITY),
    ];
    for (given, expected) in cases {
        assert_eq!(f32::from_bits(mma::to_tf32(given.to_bits())).to_bits(), expected.to_bits(), "{given:e}");
    }
    for bits in [0x7fff_ffff, 0xffff_ffff, 0x7f80_0001] {
        assert!(f32::from_bits(mma::to_tf32(bits)).is_nan(), "{bits:x}");
    }
}

#[test]
fn matrices_are_loaded_in_fragments() {
    let bench = Bench::new(256, 0);
    bench
        .run(block(32), |y| {
            let (lane, tile) = (warp::lane_id() as usize, shared::array::<u16>(0, 256));
            // Element (row, column) of matrix m is 100·m + 8·row + column, each row 16 bytes.
            for k in 0..8 {
                tile.store(8 * lane + k, (100 * (lane / 8) + 8 * (lane % 8) + k) as u16);
            }
            warp::sync(warp::ALL);
            let plain: [u32; 4] = mma::load_matrices(tile.offset(8 * lane));
            let turned: [u32; 4] = mma::load_matrices_transposed(tile.offset(8 * lane));
            for m in 0..4 {
                y.store(8 * lane + m, plain[m]);
                y.store(8 * lane + 4 + m, turned[m]);
            }
        })
        .expect("no report");
    let y = bench.content();
    for lane in 0..32 {
        let (row, column) = (lane as u32 / 4, 2 * (lane as u32 % 4));
        for m in 0..4u32 {
            let plain = y[8 * lane + m as usize];
            assert_eq!(plain & 0xffff, 100 * m + 8 * row + column);
            assert_eq!(plain >> 16, 100 * m + 8 * row + column + 1);
            let turned = y[8 * lane + 4 + m as usize];
            assert_eq!(turned & 0xffff, 100 * m + 8 * column + row);
            assert_eq!(turned >> 16, 100 * m + 8 * (column + 1) + row);
        }
    }
}

/// Fills an operand of a warpgroup: element `x` along its edge of `edge`, term `k`, at the place that the swizzle gives it.
fn fill(
    memory: crate::device::Shared<u16>,
    edge: usize,
    along_edge: bool,
    value: impl Fn(usize, usize) -> f32,
) {
    let own = thread::thread_idx_x() as usize;
    for at in (own..edge * 64).step_by(128) {
        let (x, k) = (at / 64, at % 64);
        let (line, inside) = if along_edge { (x / 64 * 64 + k, x % 64) } else { (x, k) };
        let piece = wgmma::swizzled(line as u32, inside as u32 / 8) as usize;
        memory.store(8 * piece + inside % 8, F16::from_f32(value(x, k)).to_bits());
    }
}

/// A small whole number, so that sums are exact.
fn whole(x: usize, k: usize) -> f32 {
    ((3 * x + 5 * k) % 7) as f32 - 3.0
}

fn product_of_a_warpgroup<const A_EDGE: bool, const B_EDGE: bool>() {
    let bench = Bench::new(64 * 128, 0);
    bench
        .run(block(128).with_shared(3 * 64 * 128), |y| {
            let (a, b) = (shared::array::<u16>(0, 64 * 64), shared::array::<u16>(64 * 64 * 2, 128 * 64));
            fill(a, 64, A_EDGE, whole);
            fill(b, 128, B_EDGE, |x, k| whole(k, x));
            barrier::fence_async();
            thread::sync_threads();
            let mut sums = [1.0; wgmma::SUMS];
            wgmma::wgmma_f16::<A_EDGE, B_EDGE>(&mut sums, wgmma::Operand::at(a), wgmma::Operand::at(b));
            let (group, member) = (warp::lane_id() as usize / 4, warp::lane_id() as usize % 4);
            for (i, sum) in sums.into_iter().enumerate() {
                let row = 16 * warp::warp_id() as usize + group + i % 4 / 2 * 8;
                y.cast::<f32>().store(128 * row + i / 4 * 8 + 2 * member + i % 2, sum);
            }
        })
        .expect("no report");
    for (at, bits) in bench.content().into_iter().enumerate() {
        let (row, column) = (at / 128, at % 128);
        let want = (0..64).fold(1.0, |sum, k| sum + whole(row, k) * whole(k, column));
        assert_eq!(f32::from_bits(bits), want, "{row}, {column}");
    }
}

#[test]
fn products_of_a_warpgroup_read_what_their_descriptors_say() {
    product_of_a_warpgroup::<false, false>();
    product_of_a_warpgroup::<false, true>();
    product_of_a_warpgroup::<true, false>();
    product_of_a_warpgroup::<true, true>();
}

#[test]
fn products_of_a_warpgroup_that_break_a_rule_are_caught() {
    let bench = Bench::new(1, 0);
    let run = |threads: u32, written: bool, again: bool, from: fn(u32) -> u32| {
        bench.fault(block(threads).with_shared(3 * 64 * 128), move |_| {
            let (memory, own) = (shared::array::<u16>(0, 3 * 64 * 64), thread::thread_idx_x());
            for at in (own as usize..3 * 64 * 64).step_by(threads as usize).filter(|_| written) {
                memory.store(at, 0);
            }
            barrier::fence_async();
            thread::sync_threads();
            if again && own == 0 {
                memory.store(0, 0);
                barrier::fence_async();
            }
            let a = wgmma::Operand::at(memory.offset(from(own) as usize));
            wgmma::wgmma_bf16::<false, false>(&mut [0.0; wgmma::SUMS], a, wgmma::Operand::at(memory));
        })
    };
    let unwritten = run(128, false, false, |_| 0);
    assert!(matches!(unwritten, Fault::Unwritten { .. }), "{unwritten}");
    let race = run(128, true, true, |_| 0);
    assert!(matches!(race, Fault::Race { .. }), "{race}");
    let beyond = run(128, true, false, |_| 3 * 64 * 64 - 512);
    assert!(matches!(beyond, Fault::OutOfBounds { .. } | Fault::Panic { .. }), "{beyond}");
    for fault in [run(64, true, false, |_| 0), run(128, true, false, |thread| thread % 2 * 512)] {
        assert!(matches!(fault, Fault::Misuse { .. }), "{fault}");
    }
}
