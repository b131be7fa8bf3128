//! The generated instances on which figures are stated, by name.

use recurve_scheduler::generate::{Recurrent, Shape};

/// Six shapes × CPU 1, 2 and 4 times slower × transfers of 5, 12 and 30 µs; 1–4 CPU lanes in turn.
pub(crate) fn recurrent_cases() -> Vec<(String, Recurrent)> {
    let shapes = [
        ("grid3x10", Shape::Grid { layers: 3, steps: 10 }),
        ("grid4x16", Shape::Grid { layers: 4, steps: 16 }),
        ("grid6x32", Shape::Grid { layers: 6, steps: 32 }),
        ("grid8x64", Shape::Grid { layers: 8, steps: 64 }),
        ("branches4x8", Shape::Branches { branches: 4, length: 8 }),
        ("encdec2x12", Shape::EncoderDecoder { layers: 2, steps: 12 }),
    ];
    let mut cases = Vec::new();
    for (s, (shape_name, shape)) in shapes.into_iter().enumerate() {
        for (r, ratio) in [1.0, 2.0, 4.0].into_iter().enumerate() {
            for (d, transfer_us) in [5.0, 12.0, 30.0].into_iter().enumerate() {
                let cpus = 1 + (s + 2 * r + 3 * d) % 4;
                let seed = (s * 9 + r * 3 + d) as u64;
                let name = format!("{shape_name}-r{ratio}-d{transfer_us}-c{cpus}");
                cases.push((name, Recurrent { shape, ratio, transfer_us, cpus, seed }));
            }
        }
    }
    cases
}
