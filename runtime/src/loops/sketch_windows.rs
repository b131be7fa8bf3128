//! Random convolutions and pools with maps ahead of them and behind them, some of whose values are read elsewhere, too.

use super::sketch::Sketch;
use crate::dtype::DType;
use crate::graph::ValueId;
use crate::ops::attributes::Attribute;
use crate::testing::Gen;

/// A map of a value: a function, a factor for each channel, or a sum with something of its own shape.
fn map(s: &mut Sketch, g: &mut Gen, x: ValueId, shape: &[usize]) -> Option<ValueId> {
    match g.size(0, 6) {
        0..=2 => s.node(*g.pick(&["Sigmoid", "Tanh", "Relu", "Softplus"]), vec![], &[x]),
        3..=4 => {
            let mut own = vec![1; shape.len()];
            own[1] = shape[1];
            let factor = g.tensor_in(DType::F32, &own, 0.5, 1.5);
            let factor = s.constant(factor);
            s.node(*g.pick(&["Mul", "Add"]), vec![], &[x, factor])
        }
        5 => {
            let other = g.tensor_in(DType::F32, shape, -1.0, 1.0);
            let other = s.input(other);
            s.node("Add", vec![], &[x, other])
        }
        _ => {
            // A line for all lines does not lie in planes.
            let line = g.tensor_in(DType::F32, &shape[shape.len() - 1..], -1.0, 1.0);
            let line = s.input(line);
            s.node("Add", vec![], &[line, x])
        }
    }
}

/// The shape of the latest value.
fn latest(s: &Sketch) -> Vec<usize> {
    s.values.last().map(|v| v.1.clone()).unwrap_or_default()
}

/// Maps, a convolution or pool over windows of up to three elements, and maps.
pub(super) fn windows(s: &mut Sketch, g: &mut Gen, x: ValueId, shape: &[usize]) -> Option<()> {
    let spatial = shape.len().checked_sub(2).filter(|&n| n > 0)?;
    let mut y = x;
    for _ in 0..g.size(0, 2) {
        y = map(s, g, y, shape)?;
    }
    if g.chance(0.15) {
        // Read elsewhere, too.
        s.node("Neg", vec![], &[y])?;
    }
    let kernel: Vec<usize> = (0..spatial).map(|_| g.size(1, 3)).collect();
    let signed = |v: &[usize]| Attribute::Ints(v.iter().map(|&k| k as i64).collect());
    let strides: Vec<usize> = kernel.iter().map(|&k| g.size(1, k)).collect();
    let half: Vec<usize> = kernel.iter().map(|&k| if g.chance(0.5) { k / 2 } else { 0 }).collect();
    let mut attributes =
        vec![("strides", signed(&strides)), ("pads", signed(&[half.clone(), half].concat()))];
    y = if g.chance(0.5) {
        let depthwise = g.chance(0.3);
        let filters = if depthwise { shape[1] } else { g.size(1, 9) };
        let mut weights = vec![filters, if depthwise { 1 } else { shape[1] }];
        weights.extend(&kernel);
        let w = g.tensor_in(DType::F32, &weights, -0.5, 0.5);
        let w = if g.chance(0.8) { s.constant(w) } else { s.input(w) };
        if depthwise {
            attributes.push(("group", Attribute::Int(shape[1].max(1) as i64)));
        }
        s.node("Conv", attributes, &[y, w])?
    } else {
        attributes.push(("kernel_shape", signed(&kernel)));
        if g.chance(0.3) {
            attributes.push(("ceil_mode", Attribute::Int(1)));
        }
        // Means and norms of positive elements, whose sums do not cancel.
        let pool = *g.pick(&["MaxPool", "MaxPool", "AveragePool", "LpPool"]);
        s.node(pool, attributes, &[y])?
    };
    let read = y;
    for at in 0..g.size(0, 3) {
        let shape = latest(s);
        y = map(s, g, y, &shape)?;
        if at == 0 && g.chance(0.25) {
            // What the maps behind are made of is read behind them, too.
            s.node("Add", vec![], &[read, y])?;
        }
    }
    Some(())
}
