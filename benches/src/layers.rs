//! Single layers with constant weights: products and convolutions.

use crate::recurrences::Model;
use crate::wire::Message;

/// Rows by a constant matrix and a bias: a `Gemm` that reads the matrix as it lies, or transposed.
pub fn product(rows: usize, depth: usize, columns: usize, transposed: bool) -> Vec<u8> {
    let mut model = Model::default();
    model.value(11, "x", &[rows, depth]);
    let shape = if transposed { [columns, depth] } else { [depth, columns] };
    let (weights, bias) = (model.weights(&shape, depth), model.weights(&[columns], depth));
    model.node("Gemm", &["x", &weights, &bias], &[("transB", i64::from(transposed))], &["y"]);
    model.value(12, "y", &[rows, columns]);
    model.finish()
}

/// A convolution of a square image by square windows, with as much padding as keeps an image's size at stride 1.
#[derive(Clone, Copy, Debug)]
pub struct Convolution {
    /// Channels of the input.
    pub channels: usize,
    /// Channels of the output.
    pub filters: usize,
    /// Rows and columns of a window.
    pub window: usize,
    /// Rows and columns of the image.
    pub size: usize,
    /// Positions from one window to the next.
    pub stride: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

/// That convolution with a bias and a `Relu` behind it.
pub fn convolution(of: Convolution) -> Vec<u8> {
    let Convolution { channels, filters, window, size, stride, groups } = of;
    let (deep, pad) = (channels / groups, window / 2);
    let output = (size + 2 * pad - window) / stride + 1;
    let mut model = Model::default();
    model.value(11, "x", &[1, channels, size, size]);
    let fan = deep * window * window;
    let (weights, bias) =
        (model.weights(&[filters, deep, window, window], fan), model.weights(&[filters], fan));
    let both = |name: &str, value: usize, times: usize| {
        Message::default().text(1, name).ints(8, &vec![value as i64; times]).int(20, 7)
    };
    let group = Message::default().text(1, "group").int(3, groups as i64).int(20, 2);
    let attributes = [both("strides", stride, 2), both("pads", pad, 4), group];
    model.node_with("Conv", &["x", &weights, &bias], &attributes, &["sums"]);
    model.node("Relu", &["sums"], &[], &["y"]);
    model.value(12, "y", &[1, filters, output, output]);
    model.finish()
}
