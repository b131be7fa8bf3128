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
