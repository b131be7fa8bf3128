//! # Bandwidth
//! `y = x`, or `y_t = ⊕ x` over what thread `t` reads, `rounds` times over the same `count` pieces of 16 bytes. What fits
//! L2 is read from there from the second round on: L1 keeps none of it.
//!
//! A thread takes [`AT_ONCE`] pieces before it uses the first, a grid apart, and the same ones in every round, so that
//! nothing races. Grid: 8 blocks per multiprocessor, at most one per `AT_ONCE · 256` pieces; block 256; no shared memory.

use crate::device::{Global, Vector, thread};
use crate::entry;
use crate::launch::{Buffer, Device, Geometry, Prepared, Reject};

/// 16 bytes.
type Piece = Vector<u32, 4>;

/// What both kernels take.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<Piece>,
    y: Global<Piece>,
    count: u64,
    rounds: u32,
    threads: u32,
}

const _: () = assert!(size_of::<Params>() == 32);

/// Threads of a block.
pub const THREADS: u32 = 256;
/// Pieces that a thread waits for at a time.
pub const AT_ONCE: usize = 4;
const BLOCKS: u64 = 8;

/// The launch for `count` pieces.
pub const fn geometry(count: u64, multiprocessors: u32) -> Geometry {
    let needed = count.div_ceil(AT_ONCE as u64 * THREADS as u64);
    let most = BLOCKS * multiprocessors as u64;
    let blocks = if needed < most { needed } else { most };
    Geometry::linear(if blocks > 0 { blocks as u32 } else { 1 }, THREADS)
}

/// All bits of both that differ.
#[inline(always)]
fn differ(a: Piece, b: Piece) -> Piece {
    let (Vector(a), Vector(b)) = (a, b);
    Vector([a[0] ^ b[0], a[1] ^ b[1], a[2] ^ b[2], a[3] ^ b[3]])
}

/// Reads the thread's pieces from `at` on; zeros behind the end.
#[inline(always)]
fn pieces(p: &Params, at: u64) -> [Piece; AT_ONCE] {
    let mut pieces = [Vector([0; 4]); AT_ONCE];
    for (k, piece) in pieces.iter_mut().enumerate() {
        let index = at + k as u64 * u64::from(p.threads);
        if index < p.count {
            *piece = p.x.load_read_only(index as usize);
        }
    }
    pieces
}

#[inline(always)]
fn copy(p: Params) {
    let first = u64::from(thread::index_1d());
    for _ in 0..p.rounds {
        let mut at = first;
        while at < p.count {
            let read = pieces(&p, at);
            for (k, piece) in read.into_iter().enumerate() {
                let index = at + k as u64 * u64::from(p.threads);
                if index < p.count {
                    p.y.store(index as usize, piece);
                }
            }
            at += AT_ONCE as u64 * u64::from(p.threads);
        }
    }
}

#[inline(always)]
fn read(p: Params) {
    let first = u64::from(thread::index_1d());
    let mut all = Vector([0; 4]);
    for _ in 0..p.rounds {
        let mut at = first;
        while at < p.count {
            for piece in pieces(&p, at) {
                all = differ(all, piece);
            }
            at += AT_ONCE as u64 * u64::from(p.threads);
        }
    }
    p.y.store(first as usize, all);
}

entry!(
    /// Copies.
    COPY = probe_copy(Params): copy, THREADS, with_min_blocks(4)
);
entry!(
    /// Reads, and writes 16 bytes per thread.
    READ = probe_read(Params): read, THREADS, with_min_blocks(4)
);

/// The memory of a launch, 16 bytes a piece.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    /// What is read.
    pub x: Buffer,
    /// What is written: as many pieces as are copied, or one per thread.
    pub y: Buffer,
}

/// Copies all of `x`, `rounds` times.
pub fn prepare_copy(buffers: &Buffers, rounds: u32, device: &Device) -> Result<Prepared<Params>, Reject> {
    buffers.y.holds("y", buffers.x.bytes, 16)?;
    let geometry = geometry(buffers.x.bytes / 16, device.multiprocessors);
    Prepared::new(&COPY, geometry, params(buffers, rounds, &geometry)?, device)
}

/// Reads all of `x`, `rounds` times.
pub fn prepare_read(buffers: &Buffers, rounds: u32, device: &Device) -> Result<Prepared<Params>, Reject> {
    let geometry = geometry(buffers.x.bytes / 16, device.multiprocessors);
    buffers.y.holds("y", 16 * geometry.blocks() * u64::from(THREADS), 16)?;
    Prepared::new(&READ, geometry, params(buffers, rounds, &geometry)?, device)
}

fn params(buffers: &Buffers, rounds: u32, geometry: &Geometry) -> Result<Params, Reject> {
    let Buffers { x, y } = buffers;
    x.holds("x", 16, 16)?;
    if !x.bytes.is_multiple_of(16) {
        return Err(Reject::Multiple { name: "bytes of x", got: x.bytes, of: 16 });
    }
    if x.address < y.address + y.bytes && y.address < x.address + x.bytes {
        return Err(Reject::Unsupported { what: "an output that lies over the input" });
    }
    Ok(Params {
        x: Global::from_address(x.address),
        y: Global::from_address(y.address),
        count: x.bytes / 16,
        rounds,
        threads: geometry.blocks() as u32 * THREADS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn pieces_and_room_are_checked() {
        let buffer = |address, bytes| Buffer { address, bytes };
        let good = Buffers { x: buffer(1 << 20, 4096), y: buffer(2 << 20, 4096) };
        assert!(prepare_copy(&good, 1, &EMULATED).is_ok());
        assert!(prepare_read(&good, 1, &EMULATED).is_ok());
        let short = Buffers { y: buffer(2 << 20, 4080), ..good };
        let refused = prepare_copy(&short, 1, &EMULATED).err();
        assert_eq!(refused, Some(Reject::Length { operand: "y", needed: 4096, got: 4080 }));
        let odd = Buffers { x: buffer(1 << 20, 4090), ..good };
        let refused = prepare_copy(&odd, 1, &EMULATED).err();
        assert_eq!(refused, Some(Reject::Multiple { name: "bytes of x", got: 4090, of: 16 }));
        let same = Buffers { x: good.x, y: buffer((1 << 20) + 16, 4096) };
        assert!(matches!(prepare_copy(&same, 1, &EMULATED).err(), Some(Reject::Unsupported { .. })));
    }
}
