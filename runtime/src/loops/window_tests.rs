//! Convolutions, pools and windows that are gathered, with maps around them.

use super::apart::Apart;
use super::pattern_tests::Pattern;
use crate::cpu::simd::Level;
use crate::cpu::winograd;
use crate::graph::ValueId;
use crate::ops::attributes::Attribute;
use crate::ops::window::Span;
use crate::tensor::Tensor;

type Attributes = Vec<(&'static str, Attribute)>;

fn ints(values: &[i64]) -> Attribute {
    Attribute::Ints(values.to_vec())
}

/// Windows of 3 by 2 elements, two apart, with a border that does not look alike on all sides.
fn window(pool: bool) -> Attributes {
    let mut window = vec![("strides", ints(&[2, 2])), ("pads", ints(&[1, 0, 0, 1]))];
    window.extend(pool.then(|| ("kernel_shape", ints(&[3, 2]))));
    window
}

impl Pattern {
    /// A function that is not 0 at 0, of a sum with something that differs from channel to channel.
    fn shifted(&mut self, x: ValueId, channels: usize) -> ValueId {
        let bias = self.weights(&[channels, 1, 1]);
        let sum = self.op("Add", &[x, bias]);
        self.op("Sigmoid", &[sum])
    }
}

/// Also where a border is around what the maps make, not around what they read.
#[test]
fn maps_around_a_pool_join_it() {
    let mean = |whole: i64| ("AveragePool", vec![("count_include_pad", Attribute::Int(whole))]);
    let pools = [
        ("MaxPool", vec![]),
        ("LpPool", vec![]),
        ("LpPool", vec![("p", Attribute::Int(3))]),
        mean(0),
        mean(1),
    ];
    for (name, own) in pools {
        let mut p = Pattern::new();
        let x = p.input(&[2, 9, 12, 13]);
        let made = p.shifted(x, 9);
        let pooled = p.with(name, [window(true), own].concat(), &[made]);
        let other = p.input(&[1, 9, 1, 1]);
        let scaled = p.op("Mul", &[pooled, other]);
        let y = p.op("Tanh", &[scaled]);
        p.becomes(&[y], 1, &["FusedContraction"]);
    }
}

/// A window that no strip of columns holds goes another way.
#[test]
fn maps_around_a_pool_of_wide_windows_join_it() {
    let mut p = Pattern::new();
    let x = p.input(&[1, 3, 300]);
    let made = p.op("Sigmoid", &[x]);
    let pooled = p.with("MaxPool", vec![("kernel_shape", ints(&[200]))], &[made]);
    let y = p.op("Neg", &[pooled]);
    p.becomes(&[y], 0, &["FusedContraction"]);
}

#[test]
fn maps_around_a_global_pool_join_it() {
    for name in ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"] {
        let mut p = Pattern::new();
        let x = p.input(&[2, 9, 8, 9]);
        let made = p.shifted(x, 9);
        let pooled = p.op(name, &[made]);
        let y = p.op("Tanh", &[pooled]);
        p.becomes(&[y], 1, &["FusedRows"]);
    }
}

/// Windows overlap: a plane that no cache holds is made once, ahead of the pool.
#[test]
fn large_planes_are_made_ahead_of_a_pool() {
    let mut p = Pattern::new();
    let x = p.input(&[1, 16, 300, 300]);
    let made = p.op("Sigmoid", &[x]);
    let window = vec![("kernel_shape", ints(&[3, 3])), ("strides", ints(&[9, 9]))];
    let y = p.with("MaxPool", window, &[made]);
    p.stays_apart(&[y], &["Sigmoid", "MaxPool"], &Apart::LargePlanes);
}

#[test]
fn few_planes_are_made_by_all_threads_ahead_of_a_pool() {
    let mut p = Pattern::new();
    let x = p.input(&[1, 3, 160, 160]);
    let made = p.op("Sigmoid", &[x]);
    let window = vec![("kernel_shape", ints(&[3, 3])), ("strides", ints(&[9, 9]))];
    let y = p.with("MaxPool", window, &[made]);
    p.stays_apart(&[y], &["Sigmoid", "MaxPool"], &Apart::FewPlanes);
}

/// Both of filters in blocks and of few, of groups of one channel, and of a stride; two images.
#[test]
fn maps_around_a_convolution_join_it() {
    for (filters, group) in [(8, 1), (2, 1), (9, 9), (18, 9), (9, 3)] {
        let mut p = Pattern::new();
        let x = p.input(&[2, 9, 12, 13]);
        let made = p.shifted(x, 9);
        let w = p.weights(&[filters, 9 / group, 3, 2]);
        let bias = p.weights(&[filters]);
        let attributes = [window(false), vec![("group", Attribute::Int(group as i64))]].concat();
        let convolved = p.with("Conv", attributes, &[made, w, bias]);
        let y = p.op("Tanh", &[convolved]);
        p.becomes(&[y], 1, &["FusedContraction"]);
    }
}

/// With and without a bias, of groups, and of strides; two images.
#[test]
fn maps_behind_a_transposed_convolution_join_it() {
    for (group, stride, biased) in [(1, 2, true), (3, 2, false), (3, 1, true), (9, 1, false)] {
        let mut p = Pattern::new();
        let x = p.input(&[2, 9, 7, 8]);
        let mut operands = vec![x, p.weights(&[9, 4, 3, 2])];
        operands.extend(biased.then(|| p.weights(&[4 * group])));
        let attributes = vec![
            ("strides", ints(&[stride, stride])),
            ("pads", ints(&[1, 0, 0, 0])),
            ("group", Attribute::Int(group as i64)),
        ];
        let spread = p.with("ConvTranspose", attributes, &operands);
        let y = p.shifted(spread, 4 * group);
        p.becomes(&[y], 1, &["FusedContraction"]);
    }
}

/// Windows that are computed by Winograd's tiles; the last ones reach over the border.
#[test]
fn maps_around_a_convolution_by_tiles_join_it() {
    let plain = |input| Span { input, output: input, kernel: 3, stride: 1, dilation: 1, begin: 1, end: 1 };
    assert!(winograd::choose(Level::detect(), 32, 40, &[plain(21), plain(30)]).is_some());
    let mut p = Pattern::new();
    let x = p.input(&[2, 32, 21, 30]);
    let made = p.shifted(x, 32);
    let (w, bias) = (p.weights(&[40, 32, 3, 3]), p.weights(&[40]));
    let convolved = p.with("Conv", vec![("pads", ints(&[1, 1, 1, 1]))], &[made, w, bias]);
    let other = p.input(&[2, 40, 21, 30]);
    let sum = p.op("Add", &[convolved, other]);
    let y = p.op("Tanh", &[sum]);
    p.becomes(&[y], 2, &["FusedContraction"]);
}

/// Lines of a convolution over one axis are planes.
#[test]
fn maps_ahead_of_a_convolution_of_lines_join_it() {
    let mut p = Pattern::new();
    let (x, other) = (p.input(&[1, 20, 50]), p.input(&[1, 20, 50]));
    let made = p.op("Mul", &[x, other]);
    let w = p.weights(&[6, 20, 3]);
    let y = p.with("Conv", vec![("dilations", ints(&[2])), ("pads", ints(&[2, 2]))], &[made, w]);
    p.becomes(&[y], 2, &["FusedContraction"]);
}

#[test]
fn a_convolution_of_windows_of_one_element_reads_what_lies_there() {
    let mut p = Pattern::new();
    let x = p.input(&[1, 20, 8, 9]);
    let made = p.op("Sigmoid", &[x]);
    let w = p.weights(&[6, 20, 1, 1]);
    let y = p.op("Conv", &[made, w]);
    p.stays_apart(&[y], &["Sigmoid", "Conv"], &Apart::InPlace);
}

/// Weights that are computed are not packed: windows are gathered again for each block of positions.
#[test]
fn a_convolution_that_gathers_windows_reads_what_lies_there() {
    let mut p = Pattern::new();
    let (x, w) = (p.input(&[1, 20, 8, 9]), p.input(&[6, 20, 3, 3]));
    let made = p.op("Sigmoid", &[x]);
    let y = p.op("Conv", &[made, w]);
    p.stays_apart(&[y], &["Sigmoid", "Conv"], &Apart::Windows);
}

/// What follows a convolution is its epilogue, not the pool's prologue.
#[test]
fn maps_between_a_convolution_and_a_pool_are_computed_once() {
    let mut p = Pattern::new();
    let x = p.input(&[1, 20, 8, 9]);
    let w = p.weights(&[16, 20, 3, 3]);
    let convolved = p.op("Conv", &[x, w]);
    let made = p.op("Sigmoid", &[convolved]);
    let y = p.with("MaxPool", window(true), &[made]);
    p.becomes(&[y], 1, &["FusedContraction", "MaxPool"]);
}

/// A value that is stored in any case is read where it lies.
#[test]
fn what_others_read_is_not_made_again_in_a_pool() {
    let mut p = Pattern::new();
    let x = p.input(&[2, 9, 12, 13]);
    let made = p.op("Sigmoid", &[x]);
    let y = p.with("MaxPool", window(true), &[made]);
    p.stays_apart(&[y, made], &["Sigmoid", "MaxPool"], &Apart::Output);
}

/// Lines that are turned round, or are one and the same for all lines of a plane, do not lie under it.
#[test]
fn what_does_not_lie_in_planes_is_read_ahead_of_a_pool() {
    for turned in [false, true] {
        let mut p = Pattern::new();
        let x = p.input(&[2, 9, 12, 12]);
        let other = if turned {
            let other = p.input(&[2, 9, 12, 12]);
            p.transposed(other, &[0, 1, 3, 2])
        } else {
            p.input(&[12])
        };
        let made = p.op("Add", &[x, other]);
        let y = p.with("MaxPool", window(true), &[made]);
        let names = if turned { vec!["Transpose", "FusedContraction"] } else { vec!["Add", "MaxPool"] };
        p.stays_apart(&[y], &names, &Apart::OutOfRows);
    }
}

/// Frames of a signal overlap; those whose places no steps tell are a table.
#[test]
fn gathered_windows_are_read_where_they_lie() {
    let frames = |p: &mut Pattern, places: Vec<i64>| {
        let x = p.input(&[3, 200]);
        let indices = p.sketch.constant(Tensor::new(&[12, 64], places).expect("a table"));
        let frames = p.with("Gather", vec![("axis", Attribute::Int(1))], &[x, indices]);
        let shape = p.weights(&[64]);
        p.op("Mul", &[frames, shape])
    };
    let regular: Vec<i64> = (0..12 * 64).map(|i| i / 64 * 8 + i % 64).collect();
    let mut p = Pattern::new();
    let y = frames(&mut p, regular.clone());
    p.becomes(&[y], 1, &["FusedMap"]);
    let mut other = regular;
    other[700] = 0;
    let mut p = Pattern::new();
    let y = frames(&mut p, other);
    p.becomes(&[y], 1, &["Gather", "Mul"]);
}
