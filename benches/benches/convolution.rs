//! Convolutions of residual and of depthwise networks by themselves, and uses of `Conv` that the operators' table draws.
//!
//! `cargo bench --package recurve-benches --bench convolution`

mod measured;

use criterion::{Criterion, criterion_group, criterion_main};
use measured::{Case, measure, of_the_table, quick};
use recurve_benches::layers::{Convolution, convolution};

const fn layer(channels: usize, filters: usize, window: usize, size: usize, stride: usize) -> Convolution {
    Convolution { channels, filters, window, size, stride, groups: 1 }
}

const fn depthwise(channels: usize, size: usize, stride: usize) -> Convolution {
    Convolution { channels, filters: channels, window: 3, size, stride, groups: channels }
}

const LAYERS: [(&str, Convolution); 13] = [
    ("first", layer(3, 64, 7, 224, 2)),
    ("3x3", layer(64, 64, 3, 56, 1)),
    ("3x3", layer(128, 128, 3, 28, 1)),
    ("3x3", layer(256, 256, 3, 14, 1)),
    ("3x3", layer(512, 512, 3, 7, 1)),
    ("3x3 stride 2", layer(64, 128, 3, 56, 2)),
    ("1x1", layer(32, 64, 1, 112, 1)),
    ("1x1", layer(128, 128, 1, 56, 1)),
    ("1x1", layer(512, 512, 1, 14, 1)),
    ("1x1 stride 2", layer(64, 128, 1, 56, 2)),
    ("depthwise", depthwise(32, 112, 1)),
    ("depthwise", depthwise(512, 14, 1)),
    ("depthwise stride 2", depthwise(128, 56, 2)),
];

/// The same on an image of as few windows as the reference is quick for, which takes each of its products by itself.
fn checked(of: Convolution) -> Convolution {
    let products = if quick() { 2e6 } else { 2e7 };
    let each = of.filters * of.channels / of.groups * of.window * of.window;
    let windows = (products / each as f64).sqrt() as usize;
    Convolution { size: of.size.min(windows.max(2) * of.stride), ..of }
}

fn convolutions(c: &mut Criterion) {
    let mut group = c.benchmark_group("convolution");
    for (kind, of) in LAYERS {
        let name = format!("{kind}/{}x{}x{}", of.channels, of.filters, of.size);
        measure(&mut group, &Case { name, model: convolution(of), checked: convolution(checked(of)) });
    }
    of_the_table(&mut group, "Conv", &[1, 2, 3]);
    group.finish();
}

criterion_group!(benches, convolutions);
criterion_main!(benches);
