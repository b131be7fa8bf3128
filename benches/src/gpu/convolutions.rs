//! Convolutions of ResNet-50 at batch 1, one of each size.

use super::bench::{Bench, Fault};
use recurve_kernels::cases::encode;
use recurve_kernels::conv::{Axis, Buffers, MOST_AXES, Shape};
use recurve_kernels::element::Element;
use recurve_kernels::launch::Launch;
use std::sync::Arc;

/// Channels, filters, height and width, kernel, stride.
const SHAPES: [[u32; 5]; 10] = [
    [3, 64, 224, 7, 2],
    [64, 64, 56, 1, 1],
    [64, 64, 56, 3, 1],
    [256, 64, 56, 1, 1],
    [128, 128, 28, 3, 1],
    [512, 128, 28, 1, 1],
    [256, 256, 14, 3, 1],
    [1024, 256, 14, 1, 1],
    [512, 512, 7, 3, 1],
    [2048, 512, 7, 1, 1],
];

/// Each shape in f32 and f16, padded so that a stride of 1 keeps the size.
pub(super) fn conv(bench: &mut Bench) -> Result<(), Fault> {
    let shapes = bench.size(SHAPES.to_vec(), vec![[3, 8, 9, 3, 2], [16, 8, 5, 1, 1]]);
    let limits = bench.gpu.limits();
    for [channels, filters, side, kernel, stride] in shapes {
        let begin = kernel / 2;
        let output = (side + 2 * begin - kernel) / stride + 1;
        let axis = Axis { input: side, output, kernel, stride, dilation: 1, begin };
        let mut axes = [Axis::NONE; MOST_AXES];
        axes[MOST_AXES - 2..].fill(axis);
        for element in [Element::F32, Element::F16] {
            let shape = Shape { element, images: 1, groups: 1, channels, filters, axes };
            let bytes = |count: u32| u64::from(count) * element.bytes();
            let pattern = encode(element, &[0.5, -0.25, 0.125, -0.5]);
            let x = bench.filled(bytes(channels * side * side), &pattern)?;
            let w = bench.filled(bytes(filters * channels * kernel * kernel), &pattern)?;
            let y = bench.room(bytes(filters * output * output))?;
            let buffers = Buffers { x, w, y, program: None };
            let launch: Arc<dyn Launch> = Arc::new(shape.prepare(&buffers, &limits)?);
            let seconds = bench.of_graph(&[launch], 8)?;
            let products = filters * output * output * channels * kernel * kernel;
            let rate = 2.0 * f64::from(products) / seconds / 1e12;
            let name =
                format!("conv {element:?} {channels}→{filters}, {side}², {kernel}×{kernel}, stride {stride}");
            bench.note(name, rate, "TFLOP/s");
        }
    }
    Ok(())
}
