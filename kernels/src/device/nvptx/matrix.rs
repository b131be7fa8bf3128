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

#[inline(always)]
pub(crate) fn to_tf32(value: u32) -> u32 {
    let rounded: u32;
    // SAFETY: the instruction reads and writes registers.
    unsafe {
        asm!("cvt.rna.tf32.f32 {}, {};", out(reg32) rounded, in(reg32) value, options(pure, nomem, nostack));
    }
    rounded
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

/// Four instructions, 16 terms each, one after the other, of descriptors that begin 16 terms on.
macro_rules! wgmma_four {
    ($instruction:literal, $turned_a:literal, $turned_b:literal) => {
        concat!(
            wgmma_sums!($instruction, "{64}", "{68}", $turned_a, $turned_b),
            wgmma_sums!($instruction, "{65}", "{69}", $turned_a, $turned_b),
            wgmma_sums!($instruction, "{66}", "{70}", $turned_a, $turned_b),
            wgmma_sums!($instruction, "{67}", "{71}", $turned_a, $turned_b)
        )
    };
}

/// They are started, and waited for, in one block, so that no register of theirs is touched meanwhile.
macro_rules! wgmma {
    ($($name:ident $instruction:literal $turned_a:literal $turned_b:literal;)*) => { $(
        #[inline(always)]
        fn $name(s: &mut [f32; 64], a: [u64; 4], b: [u64; 4]) {
            // SAFETY: all lanes of the warpgroup come here with the same operands, which the emulator checks.
            unsafe {
                asm!("wgmma.fence.sync.aligned;", wgmma_four!($instruction, $turned_a, $turned_b),
                    "wgmma.commit_group.sync.aligned;", "wgmma.wait_group.sync.aligned 0;",
                    inout(reg32) s[0], inout(reg32) s[1], inout(reg32) s[2], inout(reg32) s[3], inout(reg32) s[4],
                    inout(reg32) s[5], inout(reg32) s[6], inout(reg32) s[7], inout(reg32) s[8], inout(reg32) s[9],
                    inout(reg32) s[10], inout(reg32) s[11], inout(reg32) s[12], inout(reg32) s[13], inout(reg32) s[14],
                    inout(reg32) s[15], inout(reg32) s[16], inout(reg32) s[17], inout(reg32) s[18], inout(reg32) s[19],
                    inout(reg32) s[20], inout(reg32) s[21], inout(reg32) s[22], inout(reg32) s[23], inout(reg32) s[24],
                    inout(reg32) s[25], inout(reg32) s[26], inout(reg32) s[27], inout(reg32) s[28], inout(reg32) s[29],
                    inout(reg32) s[30], inout(reg32) s[31], inout(reg32) s[32], inout(reg32) s[33], inout(reg32) s[34],
                    inout(reg32) s[35], inout(reg32) s[36], inout(reg32) s[37], inout(reg32) s[38], inout(reg32) s[39],
                    inout(reg32) s[40], inout(reg32) s[41], inout(reg32) s[42], inout(reg32) s[43], inout(reg32) s[44],
                    inout(reg32) s[45], inout(reg32) s[46], inout(reg32) s[47], inout(reg32) s[48], inout(reg32) s[49],
                    inout(reg32) s[50], inout(reg32) s[51], inout(reg32) s[52], inout(reg32) s[53], inout(reg32) s[54],
                    inout(reg32) s[55], inout(reg32) s[56], inout(reg32) s[57], inout(reg32) s[58], inout(reg32) s[59],
                    inout(reg32) s[60], inout(reg32) s[61], inout(reg32) s[62], inout(reg32) s[63],
                    in(reg64) a[0], in(reg64) a[1], in(reg64) a[2], in(reg64) a[3],
                    in(reg64) b[0], in(reg64) b[1], in(reg64) b[2], in(reg64) b[3], options(nostack));
            }
        }
    )* };
}

wgmma! {
    f16_nn "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16" "0" "0";
    f16_nt "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16" "0" "1";
    f16_tn "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16" "1" "0";
    f16_tt "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16" "1" "1";
    bf16_nn "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16" "0" "0";
    bf16_nt "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16" "0" "1";
    bf16_tn "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16" "1" "0";
    bf16_tt "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16" "1" "1";
}

#[inline(always)]
pub(crate) fn wgmma_f16<const A_EDGE: bool, const B_EDGE: bool>(
    sums: &mut [f32; 64],
    a: [u64; 4],
    b: [u64; 4],
) {
    match (A_EDGE, B_EDGE) {
        (false, false) => f16_nn(sums, a, b),
        (false, true) => f16_nt(sums, a, b),
        (true, false) => f16_tn(sums, a, b),
        (true, true) => f16_tt(sums, a, b),
    }
}

#[inline(always)]
pub(crate) fn wgmma_bf16<const A_EDGE: bool, const B_EDGE: bool>(
    sums: &mut [f32; 64],
    a: [u64; 4],
    b: [u64; 4],
) {
    match (A_EDGE, B_EDGE) {
        (false, false) => bf16_nn(sums, a, b),
        (false, true) => bf16_nt(sums, a, b),
        (true, false) => bf16_tn(sums, a, b),
        (true, true) => bf16_tt(sums, a, b),
    }
}
