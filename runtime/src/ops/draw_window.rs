//! Random windows over planes, for the cases of convolutions and pools.

use super::attributes::Attribute;
use crate::testing::Gen;

/// Spatial extents, kernel extents, and a case drawn so far with the attributes of a window over them.
pub(super) struct Draw {
    pub(super) input: Vec<usize>,
    pub(super) kernel: Vec<usize>,
    pub(super) attributes: Vec<(&'static str, Attribute)>,
}

/// Draws a window over `rank` spatial axes that gives at least one position along each.
pub(super) fn draw_window(g: &mut Gen, rank: usize, dilations: bool) -> Draw {
    let most = [0, 40, 12, 6][rank];
    let kernel: Vec<usize> =
        (0..rank).map(|_| if g.chance(0.2) { 1 } else { g.size(1, 5 - rank / 2) }).collect();
    let list = |v: &[usize]| Attribute::Ints(v.iter().map(|&v| v as i64).collect());
    let mut attributes = Vec::new();
    let dilation: Vec<usize> =
        (0..rank).map(|_| if dilations && g.chance(0.3) { g.size(2, 3) } else { 1 }).collect();
    if dilation.iter().any(|&d| d > 1) || (dilations && g.chance(0.3)) {
        attributes.push(("dilations", list(&dilation)));
    }
    if g.chance(0.6) {
        let strides: Vec<usize> = (0..rank).map(|_| g.size(1, 3)).collect();
        attributes.push(("strides", list(&strides)));
    }
    let mut pads = vec![0; 2 * rank];
    match g.size(0, 5) {
        0 => attributes.push(("auto_pad", Attribute::String("SAME_UPPER".into()))),
        1 => attributes.push(("auto_pad", Attribute::String("SAME_LOWER".into()))),
        2 => attributes.push(("auto_pad", Attribute::String("VALID".into()))),
        3 => {}
        _ => {
            // Less than the kernel's reach, so that no window lies in the padding alone.
            pads = (0..2 * rank).map(|i| g.size(0, kernel[i % rank] - 1)).collect();
            attributes.push(("pads", list(&pads)));
        }
    }
    let input = (0..rank)
        .map(|i| {
            let reach = (kernel[i] - 1) * dilation[i] + 1;
            let least = reach.saturating_sub(pads[i] + pads[i + rank]).max(1);
            least + g.size(0, most)
        })
        .collect();
    Draw { input, kernel, attributes }
}

/// Shapes and attributes of a convolution.
pub(super) struct DrawConv {
    pub(super) x: Vec<usize>,
    pub(super) w: Vec<usize>,
    pub(super) attributes: Vec<(&'static str, Attribute)>,
}

/// Draws a convolution.
pub(super) fn draw_conv(g: &mut Gen) -> DrawConv {
    let rank = g.size(1, 3);
    let Draw { input, kernel, mut attributes } = draw_window(g, rank, true);
    let groups = *g.pick(&[1, 1, 1, 2, 3]);
    let (channels, filters) = match g.size(0, 3) {
        0 => (1, g.size(1, 2)),
        _ => (g.size(1, 9), g.size(1, 9)),
    };
    let images = if g.chance(0.05) { 0 } else { g.size(1, 2) };
    if groups > 1 || g.chance(0.3) {
        attributes.push(("group", Attribute::Int(groups as i64)));
    }
    if g.chance(0.5) {
        attributes.push(("kernel_shape", Attribute::Ints(kernel.iter().map(|&k| k as i64).collect())));
    }
    let x = [&[images, groups * channels], &input[..]].concat();
    let w = [&[groups * filters, channels], &kernel[..]].concat();
    DrawConv { x, w, attributes }
}
