//! Matrix products of a warp.

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
                    in(reg32) b[0], in(reg32) b[1], options(pure, nomem, nostack));
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
