//! The matrix unit's loop: sums of two by two tiles, term by term, and tiles of the right operand made beside it.

#![allow(
    clippy::inline_always,
    reason = "the tiles' values live from one piece of assembler to the next, which have to follow each other"
)]

use super::split::{split_columns, split_lines};
use super::{Beside, Columns, DEPTH, Line, Place, SIDE, STEPS, Share, Start, tile_lines};
use crate::cpu::simd::fetch;
use std::arch::asm;

/// [`super::Session::product`].
///
/// # Safety
///
/// A session lasts on this thread.
#[inline]
pub(super) unsafe fn product<const R: usize, const N: usize>(
    left: Place<'_>,
    right: &[Line],
    start: Start<'_>,
    sums: ([&mut [f32]; N], usize),
    mut meanwhile: impl FnMut(),
) {
    assert!(right.len() >= left.starts.len() * tile_lines(N), "too few tiles");
    let end = Sums::begin::<R>(left, start, sums);
    for (block, start) in left.starts.iter().enumerate() {
        let rows = left.lines[left.first + start..].as_ptr();
        // SAFETY: the tiles have their shapes while the session lasts. Of the left operand the lines are read that `begin`
        // found to be there, of the right one `tile_lines` for each start.
        unsafe {
            terms::<R, N>(rows, left.plane, right.as_ptr().add(block * tile_lines(N)), |_| meanwhile());
        }
    }
    end.store::<R>();
}

/// [`super::Session::product_apart`].
///
/// # Safety
///
/// A session lasts on this thread.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn product_apart<const R: usize, const N: usize, const W: usize>(
    left: Place<'_>,
    columns: &Columns<'_, W>,
    made: &mut [Line],
    start: Start<'_>,
    sums: ([&mut [f32]; N], usize),
) {
    let (blocks, size) = (left.starts.len(), tile_lines(N));
    assert!(made.len() >= 2 * size, "too little room for tiles");
    let of = |block: usize| block % 2 * size..(block % 2 + 1) * size;
    let mut asked = Share::new(columns.ahead.part.clone(), blocks * STEPS);
    if blocks > 0 {
        split_columns::<W, N>(columns.block(0), columns.first, &mut made[of(0)]);
    }
    let end = Sums::begin::<R>(left, start, sums);
    for (block, start) in left.starts.iter().enumerate() {
        let rows = left.lines[left.first + start..].as_ptr();
        let mut none = [];
        let (now, next) = if block + 1 < blocks {
            match made.get_disjoint_mut([of(block), of(block + 1)]) {
                Ok([now, next]) => (now, next),
                Err(_) => unreachable!("two blocks in one slot of two"),
            }
        } else {
            (&mut made[of(block)], &mut none[..])
        };
        let [low, high] = columns.block(block + 1);
        // Written out, since what is called from the library is compiled without the features.
        let step = |step: usize| {
            for line in asked.next().filter_map(|turn| columns.ahead.line(turn)) {
                fetch(bytemuck::cast_slice(line));
            }
            if let (Some(low), Some(high)) = (low.first_chunk::<SIDE>(), high.first_chunk::<SIDE>()) {
                for at in step * SIDE / STEPS..(step + 1) * SIDE / STEPS {
                    split_lines::<W, N>([&low[at], &high[at]], columns.first, at, &mut *next);
                }
            } else if step == 0 && block + 1 < blocks {
                split_columns::<W, N>([low, high], columns.first, &mut *next);
            }
        };
        // SAFETY: as in `product`; `now` is of `tile_lines` lines.
        unsafe { terms::<R, N>(rows, left.plane, now.as_ptr(), step) }
    }
    end.store::<R>();
}

/// [`super::Session::product_beside`], where the tiles that are made beside it are of `G` groups of columns.
///
/// # Safety
///
/// A session lasts on this thread.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn product_beside<const R: usize, const N: usize, const G: usize, const W: usize>(
    left: Place<'_>,
    right: &[Line],
    start: Start<'_>,
    sums: ([&mut [f32]; N], usize),
    beside: &mut Beside<'_, W>,
) {
    assert!(right.len() >= left.starts.len() * tile_lines(N), "too few tiles");
    let Beside { lines, columns: (first, _), tiles, pairs, ahead, asked } = beside;
    // Written out, since what is called is compiled without the features or not inlined.
    let mut step = |_| {
        for line in asked.next().filter_map(|turn| ahead.line(turn)) {
            fetch(bytemuck::cast_slice(line));
        }
        let none = const { &[0.0; W] };
        for pair in pairs.next() {
            let (block, at) = (pair / SIDE, pair % SIDE);
            let line = |half: usize| lines.get(block * DEPTH + half * SIDE + at).unwrap_or(none);
            let tiles = &mut tiles[block * tile_lines(G)..][..tile_lines(G)];
            split_lines::<W, G>([line(0), line(1)], *first, at, tiles);
        }
    };
    let end = Sums::begin::<R>(left, start, sums);
    for (block, start) in left.starts.iter().enumerate() {
        let rows = left.lines[left.first + start..].as_ptr();
        // SAFETY: as in `product`.
        unsafe { terms::<R, N>(rows, left.plane, right.as_ptr().add(block * tile_lines(N)), &mut step) }
    }
    end.store::<R>();
}

/// Where the sums of a product go once they are whole; until then tiles hold them.
struct Sums<'s, const N: usize> {
    to: [&'s mut [f32]; N],
    /// Bytes of a row.
    stride: usize,
}

impl<'s, const N: usize> Sums<'s, N> {
    /// Lets tiles hold what the sums start from, once it is asserted that all of the left operand and all sums are there.
    fn begin<const R: usize>(
        left: Place<'_>,
        start: Start<'_>,
        (mut to, width): ([&'s mut [f32]; N], usize),
    ) -> Self {
        const { assert!((R == 1 || R == 2) && (N == 1 || N == 2), "there are tiles for two by two") }
        let Place { lines, first, starts, plane } = left;
        let rows = R * SIDE;
        let fits = |sums: &&mut [f32]| sums.len() >= (rows - 1) * width + SIDE;
        assert!(width >= SIDE && to.iter().all(fits), "too few sums");
        let last = starts.iter().copied().max().unwrap_or(0) + first;
        assert!(last < lines.len() && lines.len() - last >= 2 * plane + rows, "too few lines");
        let stride = width * size_of::<f32>();
        let (begin, pitch) = match start {
            Start::Same(start) => {
                assert!(start.len() >= N, "too few columns");
                (std::array::from_fn(|group| start[group].as_ptr()), 0)
            }
            Start::Own => (to.each_mut().map(|sums| sums.as_ptr()), stride),
        };
        // SAFETY: a product has a session, which gave the tiles their shapes. Rows of the sums are read, or the one that
        // all of them start from; they were asserted to lie in their slices.
        unsafe { load_sums::<R, N>(begin, pitch) }
        Self { to, stride }
    }

    /// Writes the sums.
    fn store<const R: usize>(mut self) {
        // SAFETY: all rows are written, which were asserted to be there.
        unsafe { store_sums::<R, N>(self.to.each_mut().map(|sums| sums.as_mut_ptr()), self.stride) }
    }
}

// Tiles 0 to 3 hold sums from `load_sums` to `store_sums`, 4 to 7 operands: 0 and 2 the first group's of the first 16 rows
// and of the second, 1 and 3 the second group's. The compiler has no values in tiles, since nothing else in a program uses
// them while a session lasts. The callers of these functions answer for the addresses.

#[inline(always)]
unsafe fn load_sums<const R: usize, const N: usize>(from: [*const f32; N], stride: usize) {
    // SAFETY: see above.
    unsafe {
        asm!("tileloadd tmm0, [{x} + {s}]", x = in(reg) from[0], s = in(reg) stride, options(nostack, readonly));
        if N == 2 {
            asm!("tileloadd tmm1, [{x} + {s}]", x = in(reg) from[1], s = in(reg) stride, options(nostack, readonly));
        }
        let from = from.map(|from| from.wrapping_byte_add(SIDE * stride));
        if R == 2 {
            asm!("tileloadd tmm2, [{x} + {s}]", x = in(reg) from[0], s = in(reg) stride, options(nostack, readonly));
        }
        if R == 2 && N == 2 {
            asm!("tileloadd tmm3, [{x} + {s}]", x = in(reg) from[1], s = in(reg) stride, options(nostack, readonly));
        }
    }
}

#[inline(always)]
unsafe fn store_sums<const R: usize, const N: usize>(to: [*mut f32; N], stride: usize) {
    // SAFETY: see above.
    unsafe {
        asm!("tilestored [{x} + {s}], tmm0", x = in(reg) to[0], s = in(reg) stride, options(nostack));
        if N == 2 {
            asm!("tilestored [{x} + {s}], tmm1", x = in(reg) to[1], s = in(reg) stride, options(nostack));
        }
        let to = to.map(|to| to.wrapping_byte_add(SIDE * stride));
        if R == 2 {
            asm!("tilestored [{x} + {s}], tmm2", x = in(reg) to[0], s = in(reg) stride, options(nostack));
        }
        if R == 2 && N == 2 {
            asm!("tilestored [{x} + {s}], tmm3", x = in(reg) to[1], s = in(reg) stride, options(nostack));
        }
    }
}

/// Half `I` of a part of the rows.
#[inline(always)]
unsafe fn load_rows<const R: usize, const I: usize>(from: *const Line) {
    // SAFETY: see above.
    unsafe {
        if I == 0 {
            asm!("tileloadd tmm4, [{x} + {s}]", x = in(reg) from, s = in(reg) size_of::<Line>(), options(nostack, readonly));
        } else if R == 2 {
            let from = from.add(SIDE);
            asm!("tileloadd tmm5, [{x} + {s}]", x = in(reg) from, s = in(reg) size_of::<Line>(), options(nostack, readonly));
        }
    }
}

/// Group `J` of a part of the columns.
#[inline(always)]
unsafe fn load_columns<const N: usize, const J: usize>(from: *const Line) {
    // SAFETY: see above.
    unsafe {
        if J == 0 {
            asm!("tileloadd tmm6, [{x} + {s}]", x = in(reg) from, s = in(reg) size_of::<Line>(), options(nostack, readonly));
        } else if N == 2 {
            let from = from.add(SIDE);
            asm!("tileloadd tmm7, [{x} + {s}]", x = in(reg) from, s = in(reg) size_of::<Line>(), options(nostack, readonly));
        }
    }
}

/// Half `I` of the rows by group `J` of the columns.
#[inline(always)]
unsafe fn multiply<const R: usize, const N: usize, const I: usize, const J: usize>() {
    // SAFETY: see above; there is none.
    unsafe {
        match (I, J) {
            (0, 0) => asm!("tdpbf16ps tmm0, tmm4, tmm6", options(nostack, nomem)),
            (0, 1) if N == 2 => asm!("tdpbf16ps tmm1, tmm4, tmm7", options(nostack, nomem)),
            (1, 0) if R == 2 => asm!("tdpbf16ps tmm2, tmm5, tmm6", options(nostack, nomem)),
            (1, 1) if R == 2 && N == 2 => asm!("tdpbf16ps tmm3, tmm5, tmm7", options(nostack, nomem)),
            _ => {}
        }
    }
}

/// A product of parts, after which other columns are loaded.
#[inline(always)]
unsafe fn then_columns<const R: usize, const N: usize>(next: *const Line) {
    // SAFETY: see above.
    unsafe {
        multiply::<R, N, 0, 0>();
        multiply::<R, N, 1, 0>();
        load_columns::<N, 0>(next);
        multiply::<R, N, 0, 1>();
        multiply::<R, N, 1, 1>();
        load_columns::<N, 1>(next);
    }
}

/// A product of parts, after which other rows are loaded.
#[inline(always)]
unsafe fn then_rows<const R: usize, const N: usize>(next: *const Line) {
    // SAFETY: see above.
    unsafe {
        multiply::<R, N, 0, 0>();
        multiply::<R, N, 0, 1>();
        load_rows::<R, 0>(next);
        multiply::<R, N, 1, 0>();
        multiply::<R, N, 1, 1>();
        load_rows::<R, 1>(next);
    }
}

/// 32 terms, the smallest products first. `meanwhile` is called for each of the [`STEPS`] products of parts, and computed
/// beside them.
#[inline(always)]
unsafe fn terms<const R: usize, const N: usize>(
    rows: *const Line,
    plane: usize,
    columns: *const Line,
    mut meanwhile: impl FnMut(usize),
) {
    // SAFETY: see above.
    unsafe {
        load_columns::<N, 0>(columns);
        load_rows::<R, 0>(rows);
        load_rows::<R, 1>(rows);
        load_columns::<N, 1>(columns);
        for step in 0..STEPS {
            match step {
                0 => then_columns::<R, N>(columns.add(N * SIDE)),
                1 => then_rows::<R, N>(rows.add(plane)),
                2 => then_columns::<R, N>(columns.add(2 * N * SIDE)),
                3 => then_rows::<R, N>(rows.add(2 * plane)),
                4 => then_rows::<R, N>(rows),
                _ => {
                    multiply::<R, N, 0, 0>();
                    multiply::<R, N, 0, 1>();
                    multiply::<R, N, 1, 0>();
                    multiply::<R, N, 1, 1>();
                }
            }
            meanwhile(step);
        }
    }
}
