//! Convolutions of ResNet-50 at batch 1, one of each size: by the kernel of all convolutions, and by Winograd's products where
//! there are some. Rates count the operations of the definition, so that both tell which one takes less time.

use super::bench::{Bench, Fault};
use recurve_kernels::cases::encode;
use recurve_kernels::conv::winograd::{self, Winograd};
use recurve_kernels::conv::{self, Axis, Buffers, MOST_AXES, Shape};
use recurve_kernels::element::Element;
use recurve_kernels::gemm::Factors;
use recurve_kernels::launch::{Buffer, Launch};
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
            let (variant, parts) = conv::choose(&shape, Factors::Own, true, &limits)?;
            let w = bench.filled(variant.weight_bytes(&shape), &pattern)?;
            let y = bench.room(bytes(filters * output * output))?;
            let workspace = variant.workspace_bytes(&shape, parts);
            let workspace = if workspace > 0 { bench.room(workspace)? } else { Buffer::default() };
            let buffers = Buffers { x, w, y, workspace, program: None };
            let plan = variant.prepare(&shape, (Factors::Own, parts), &buffers, &limits)?;
            let mut ways: Vec<(&str, Vec<Arc<dyn Launch>>)> =
                vec![(variant.id, vec![Arc::new(plan.product)])];
            if let Some(sum) = plan.sum {
                ways[0].1.push(Arc::new(sum));
            }
            if let Ok(winograd) = Winograd::new(&shape, Factors::Own) {
                let u = bench.filled(winograd.packed_bytes(), &pattern)?;
                let workspace = bench.room(winograd.workspace_bytes(&limits)?)?;
                let buffers = winograd::Buffers { x, u, y, workspace, program: None };
                let plan = winograd.prepare(&buffers, &limits)?;
                let mut launches: Vec<Arc<dyn Launch>> =
                    vec![Arc::new(plan.input), Arc::new(plan.product.product)];
                if let Some(sum) = plan.product.sum {
                    launches.push(Arc::new(sum));
                }
                launches.push(Arc::new(plan.output));
                ways.push(("winograd", launches));
            }
            let products = filters * output * output * channels * kernel * kernel;
            for (way, launches) in ways {
                let seconds = bench.of_graph(&launches, 8)? * launches.len() as f64;
                let rate = 2.0 * f64::from(products) / seconds / 1e12;
                let window = format!("{kernel}×{kernel}, stride {stride}");
                let name = format!("conv {element:?} {channels}→{filters}, {side}², {window}, {way}");
                bench.note(name, rate, "TFLOP/s");
            }
        }
    }
    Ok(())
}
