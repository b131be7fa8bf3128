//! Probes: all that they copy arrives, and who waits has seen what was written before.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use crate::launch::Buffer;
use crate::probe::{cluster, empty, meet, stream};

/// Each probe in its turn.
pub(super) fn shapes(number: u32, g: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let rounds = g.within(1..=5);
    match number % 7 {
        0 => copies(rounds, g, lab),
        1 => reads(rounds, g, lab),
        2 => {
            let blocks = g.within(1..=9);
            let buffers = words(meet::words(blocks), blocks, lab)?;
            lab.run(buffers.barrier(blocks, rounds, &lab.device())?)?;
            all_saw(buffers.seen, &vec![rounds; blocks as usize], lab)
        }
        3 => {
            let blocks = g.within(2..=9);
            let buffers = words(64, blocks, lab)?;
            lab.run(buffers.flag(blocks, rounds, &lab.device())?)?;
            all_saw(buffers.seen, &vec![rounds; blocks as usize], lab)
        }
        4 => {
            // The host has raised its flag for all rounds already.
            let buffers = words(64, 1, lab)?;
            let raised: Vec<u8> =
                [vec![rounds], vec![0; 63]].concat().iter().flat_map(|w| w.to_le_bytes()).collect();
            let words = lab.upload("words", &raised)?;
            lab.run(meet::Buffers { words, ..buffers }.host_flag(rounds, &lab.device())?)?;
            lab.run(empty(g.within(1..=4), &lab.device())?)?;
            all_saw(buffers.seen, &[rounds], lab)?;
            all_saw(Buffer { address: words.address + 128, bytes: 4 }, &[rounds], lab)
        }
        5 => {
            let blocks = g.pick(&[2, 4, 8]);
            let seen = lab.room("seen", 4 * u64::from(blocks))?;
            lab.run(cluster::prepare_barrier(seen, blocks, rounds, &lab.device())?)?;
            all_saw(seen, &vec![rounds; blocks as usize], lab)
        }
        _ => {
            let blocks = g.pick(&[2, 4, 8]);
            let seen = lab.room("seen", 4 * u64::from(blocks))?;
            lab.run(cluster::prepare_ring(seen, blocks, rounds, &lab.device())?)?;
            let mut want: Vec<u32> = (0..blocks).map(|b| (rounds - 1) * blocks + b).collect();
            want[0] = rounds * blocks;
            all_saw(seen, &want, lab)
        }
    }
}

/// Words that are zero, and unwritten ones for what blocks see.
fn words(count: u64, blocks: u32, lab: &mut Lab<'_>) -> Result<meet::Buffers, Failure> {
    let words = lab.upload("words", &vec![0; 4 * count as usize])?;
    Ok(meet::Buffers { words, seen: lab.room("seen", 4 * u64::from(blocks))? })
}

fn all_saw(seen: Buffer, want: &[u32], lab: &mut Lab<'_>) -> Result<(), Failure> {
    let got: Vec<u32> =
        lab.bytes(seen)?.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
    if got == want { Ok(()) } else { Err(Failure::Wrong(format!("saw {got:?} instead of {want:?}"))) }
}

/// Pieces that are fewer than threads, or more than they take in one turn.
fn pieces(g: &mut Draw, lab: &Lab<'_>) -> Vec<u8> {
    let turn = 8 * lab.device().multiprocessors * 256 * stream::AT_ONCE as u32;
    let count = g.pick(&[1, 255, 1024, 1025, turn + 77]);
    (0..count).flat_map(|_| [g.bits().to_le_bytes(), g.bits().to_le_bytes()].concat()).collect()
}

fn copies(rounds: u32, g: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let all = pieces(g, lab);
    let buffers = stream::Buffers { x: lab.upload("x", &all)?, y: lab.room("y", all.len() as u64)? };
    lab.run(stream::prepare_copy(&buffers, rounds, &lab.device())?)?;
    if lab.bytes(buffers.y)? == all { Ok(()) } else { Err(Failure::Wrong("a copy that differs".into())) }
}

fn reads(rounds: u32, g: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let all = pieces(g, lab);
    let geometry = stream::geometry(all.len() as u64 / 16, lab.device().multiprocessors);
    let y = lab.room("y", 16 * geometry.blocks() * u64::from(stream::THREADS))?;
    let buffers = stream::Buffers { x: lab.upload("x", &all)?, y };
    lab.run(stream::prepare_read(&buffers, rounds, &lab.device())?)?;
    // What is read an even number of times cancels.
    let mut want = [0u8; 16];
    for piece in all.chunks_exact(16).filter(|_| rounds % 2 == 1) {
        want.iter_mut().zip(piece).for_each(|(all, byte)| *all ^= byte);
    }
    let mut got = [0u8; 16];
    for piece in lab.bytes(y)?.chunks_exact(16) {
        got.iter_mut().zip(piece).for_each(|(all, byte)| *all ^= byte);
    }
    if got == want { Ok(()) } else { Err(Failure::Wrong(format!("read {got:?} instead of {want:?}"))) }
}
