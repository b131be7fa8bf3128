//! Matrix products of a warp.
//!
//! No block here is `pure`: the compiler might move it under a condition, where not all lanes would come to it. Copies
//! are kept off by the barriers of the loops around products, which the compiler does not copy.

use super::memory::SharedAddress;
use core::arch::asm;

/// A product by one instruction.
macro_rules! product {
    ($($name:ident $instruction:literal;)*) => { $(
        #[inline(always)]
        pub(crate) fn $name(a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4] {
            let mut d = c;
            // SAFETY: all lanes of the warp come here, which the emulator checks.
            unsafe {
                asm!(concat!($instruction, " {{{0}, {1}, {2}, {3}}}, {{{4}, {5}, {6}, {7}}}, {{{8}, {9}}}, {{{0}, {1}, {2}, {3}}};"),
                    inout(reg32) d[0], inout(reg32) d[1], inout(reg32) d[2], inout(reg32) d[3],
                    in(reg32) a[0], in(reg32) a[1], in(reg32) a[2], in(reg32) a[3],
                    in(reg32) b[0], in(reg32) b[1], options(nomem, nostack));
            }
            d
        }
    )* };
}

product! {
    m16n8k16_f16 "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32";
    m16n8k16_bf16 "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32";
    m16n8k8_tf32 "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32";
}

/// `ldmatrix` of `N` matrices with one spelling.
macro_rules! load_as {
    ($suffix:literal, $row:expr, $n:expr) => {{
        let mut words = [0u32; 4];
        let [a, b, c, d] = &mut words;
        // SAFETY: the launch contract covers the rows; all lanes of the warp come here, which the emulator checks.
        unsafe {
            match $n {
                1 => asm!(concat!("ldmatrix.sync.aligned.m8n8.x1", $suffix, " {{{}}}, [{}];"),
                    out(reg32) *a, in(reg32) $row, options(nostack, readonly)),
                2 => asm!(concat!("ldmatrix.sync.aligned.m8n8.x2", $suffix, " {{{}, {}}}, [{}];"),
                    out(reg32) *a, out(reg32) *b, in(reg32) $row, options(nostack, readonly)),
                _ => asm!(concat!("ldmatrix.sync.aligned.m8n8.x4", $suffix, " {{{}, {}, {}, {}}}, [{}];"),
                    out(reg32) *a, out(reg32) *b, out(reg32) *c, out(reg32) *d, in(reg32) $row,
                    options(nostack, readonly)),
            }
        }
        words
    }};
}

#[inline(always)]
pub(crate) fn load_matrices<const N: usize>(row: SharedAddress, transposed: bool) -> [u32; N] {
    const { assert!(N == 1 || N == 2 || N == 4) };
    let words =
        if transposed { load_as!(".trans.shared.b16", row, N) } else { load_as!(".shared.b16", row, N) };
    core::array::from_fn(|i| words[i])
}

/// Bytes from the start of the window to a place.
#[inline(always)]
pub(crate) fn shared_bytes(place: SharedAddress) -> u32 {
    place
}

/// The sums as registers of one instruction.
macro_rules! wgmma_sums {
    ($instruction:literal, $a:literal, $b:literal, $turned_a:literal, $turned_b:literal) => {
        concat!(
            $instruction,
            " {{",
            "{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}, ",
            "{8}, {9}, {10}, {11}, {12}, {13}, {14}, {15}, ",
            "{16}, {17}, {18}, {19}, {20}, {21}, {22}, {23}, ",
            "{24}, {25}, {26}, {27}, {28}, {29}, {30}, {31}, ",
            "{32}, {33}, {34}, {35}, {36}, {37}, {38}, {39}, ",
            "{40}, {41}, {42}, {43}, {44}, {45}, {46}, {47}, ",
            "{48}, {49}, {50}, {51}, {52}, {53}, {54}, {55}, ",
            "{56}, {57}, {58}, {59}, {60}, {61}, {62}, {63}",
            "}}, ",
            $a,
            ", ",
            $b,
            ", 1, 1, 1, ",
            $turned_a,
            ", ",
            $turned_b,
            ";"
        )
    };
}

/// Four instructions, 16 terms each, one after the other in `a0 ..= a3` and `b0 ..= b3`: descriptors that begin 16 terms on.
/// They are started, and waited for, in one block, so that no register of theirs is touched meanwhile.
macro_rules! wgmma_by {
    ($instruction:literal, $turned_a:literal, $turned_b:literal, $sums:expr, $a:expr, $b:expr) => {{
        let (sums, a, b): (&mut [f32; 64], [u64; 4], [u64; 4]) = ($sums, $a, $b);
        // SAFETY: all lanes of the warpgroup come here with the same operands, which lie in shared memory as the launch
        // contract has it; the emulator checks both.
        unsafe {
            asm!(
                "wgmma.fence.sync.aligned;",
                wgmma_sums!($instruction, "{64}", "{68}", $turned_a, $turned_b),
                wgmma_sums!($instruction, "{65}", "{69}", $turned_a, $turned_b),
                wgmma_sums!($instruction, "{66}", "{70}", $turned_a, $turned_b),
                wgmma_sums!($instruction, "{67}", "{71}", $turned_a, $turned_b),
                "wgmma.commit_group.sync.aligned;",
                "wgmma.wait_group.sync.aligned 0;",
                inout(reg32) sums[0], inout(reg32) sums[1], inout(reg32) sums[2], inout(reg32) sums[3],
                inout(reg32) sums[4], inout(reg32) sums[5], inout(reg32) sums[6], inout(reg32) sums[7],
                inout(reg32) sums[8], inout(reg32) sums[9], inout(reg32) sums[10], inout(reg32) sums[11],
                inout(reg32) sums[12], inout(reg32) sums[13], inout(reg32) sums[14], inout(reg32) sums[15],
                inout(reg32) sums[16], inout(reg32) sums[17], inout(reg32) sums[18], inout(reg32) sums[19],
                inout(reg32) sums[20], inout(reg32) sums[21], inout(reg32) sums[22], inout(reg32) sums[23],
                inout(reg32) sums[24], inout(reg32) sums[25], inout(reg32) sums[26], inout(reg32) sums[27],
                inout(reg32) sums[28], inout(reg32) sums[29], inout(reg32) sums[30], inout(reg32) sums[31],
                inout(reg32) sums[32], inout(reg32) sums[33], inout(reg32) sums[34], inout(reg32) sums[35],
                inout(reg32) sums[36], inout(reg32) sums[37], inout(reg32) sums[38], inout(reg32) sums[39],
                inout(reg32) sums[40], inout(reg32) sums[41], inout(reg32) sums[42], inout(reg32) sums[43],
                inout(reg32) sums[44], inout(reg32) sums[45], inout(reg32) sums[46], inout(reg32) sums[47],
                inout(reg32) sums[48], inout(reg32) sums[49], inout(reg32) sums[50], inout(reg32) sums[51],
                inout(reg32) sums[52], inout(reg32) sums[53], inout(reg32) sums[54], inout(reg32) sums[55],
                inout(reg32) sums[56], inout(reg32) sums[57], inout(reg32) sums[58], inout(reg32) sums[59],
                inout(reg32) sums[60], inout(reg32) sums[61], inout(reg32) sums[62], inout(reg32) sums[63],
                in(reg64) a[0], in(reg64) a[1], in(reg64) a[2], in(reg64) a[3],
                in(reg64) b[0], in(reg64) b[1], in(reg64) b[2], in(reg64) b[3],
                options(nostack)
            );
        }
    }};
}

/// A product of a warpgroup by one instruction's name.
macro_rules! wgmma {
    ($($name:ident $instruction:literal;)*) => { $(
        #[inline(always)]
        pub(crate) fn $name<const A_EDGE: bool, const B_EDGE: bool>(sums: &mut [f32; 64], a: [u64; 4], b: [u64; 4]) {
            match (A_EDGE, B_EDGE) {
                (false, false) => wgmma_by!($instruction, "0", "0", sums, a, b),
                (false, true) => wgmma_by!($instruction, "0", "1", sums, a, b),
                (true, false) => wgmma_by!($instruction, "1", "0", sums, a, b),
                (true, true) => wgmma_by!($instruction, "1", "1", sums, a, b),
            }
        }
    )* };
}

wgmma! {
    wgmma_f16 "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16";
    wgmma_bf16 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16";
}
