//! Matrix products of a warp.

use crate::emulator::lane::with;
use crate::emulator::{Exchange, Product, SharedAddress};
use std::panic::Location;

#[track_caller]
pub(crate) fn m16n8k16_f16(a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4] {
    product(Product::F16, a, b, c)
}

#[track_caller]
pub(crate) fn m16n8k16_bf16(a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4] {
    product(Product::BF16, a, b, c)
}

#[track_caller]
pub(crate) fn m16n8k8_tf32(a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4] {
    product(Product::TF32, a, b, c)
}

/// The low 13 bits of the fraction are rounded away; a carry goes on into the exponent.
pub(crate) fn to_tf32(value: u32) -> u32 {
    if f32::from_bits(value).is_nan() { 0x7fff_ffff } else { (value + 0x1000) & 0xffff_e000 }
}

#[track_caller]
fn product(product: Product, a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4] {
    let at = Location::caller();
    let c = c.map(f32::to_bits);
    let words = [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], c[2], c[3]];
    with(|here| here.exchange(u32::MAX, Exchange::Product(product), words, at)).map(f32::from_bits)
}

#[track_caller]
pub(crate) fn load_matrices<const N: usize>(row: SharedAddress, transposed: bool) -> [u32; N] {
    const { assert!(N == 1 || N == 2 || N == 4) };
    let at = Location::caller();
    with(|here| {
        let mut words = [0; 10];
        if here.lane.position.lane < 8 * N as u32 {
            let bits = here.load_row(row, at);
            (0..4).for_each(|i| words[i] = (bits >> (32 * i)) as u32);
        }
        let all = here.exchange(u32::MAX, Exchange::Matrices { transposed }, words, at);
        let mut matrices = [0; N];
        matrices.copy_from_slice(&all[..N]);
        matrices
    })
}

/// Bytes from the start of the block's shared memory to a place.
pub(crate) fn shared_bytes(place: SharedAddress) -> u32 {
    place.offset
}

#[track_caller]
pub(crate) fn wgmma_f16<const A_EDGE: bool, const B_EDGE: bool>(
    sums: &mut [f32; 64],
    a: [u64; 4],
    b: [u64; 4],
) {
    let at = Location::caller();
    with(|here| here.warpgroup_product(Product::F16, sums, [(a, A_EDGE), (b, B_EDGE)], at));
}

#[track_caller]
pub(crate) fn wgmma_bf16<const A_EDGE: bool, const B_EDGE: bool>(
    sums: &mut [f32; 64],
    a: [u64; 4],
    b: [u64; 4],
) {
    let at = Location::caller();
    with(|here| here.warpgroup_product(Product::BF16, sums, [(a, A_EDGE), (b, B_EDGE)], at));
}
