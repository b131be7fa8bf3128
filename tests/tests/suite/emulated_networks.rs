//! Networks in reduced form on the emulated GPU, kernels checked at every access: the CPU's answers with nothing on the host.
//! Topologies are those of the models that engines are compared on, and of light image classifiers; extents are small.

use crate::network::{Net, With};
use recurve_tests::wire::ints;

/// A recurrent layer; its outputs.
fn recurrent(
    net: &mut Net,
    op: &str,
    x: &str,
    [input, hidden]: [i64; 2],
    directions: i64,
    initial: Option<&str>,
) -> Vec<String> {
    let gates = if op == "LSTM" { 4 } else { 3 };
    let w = net.around(&[directions, gates * hidden, input], 0.0, 0.4);
    let r = net.around(&[directions, gates * hidden, hidden], 0.0, 0.4);
    let b = net.around(&[directions, 2 * gates * hidden], 0.0, 0.4);
    let mut from = vec![x, w.as_str(), r.as_str(), b.as_str()];
    from.extend(initial.map(|h| ["", h]).into_iter().flatten());
    let direction = if directions == 2 { "bidirectional" } else { "forward" };
    net.nodes(op, &from, if op == "LSTM" { 3 } else { 2 }, |node| {
        let node = node.with_int("hidden_size", hidden).with_text("direction", direction);
        if op == "GRU" { node.with_int("linear_before_reset", 1) } else { node }
    })
}

#[test]
fn recurrent_models() {
    let forms = [
        ("LSTM", 16, 8, 1),
        ("LSTM", 32, 5, 1),
        ("LSTM", 64, 3, 1),
        ("LSTM", 33, 4, 1),
        ("LSTM", 48, 2, 1),
        ("GRU", 32, 1, 1),
        ("GRU", 64, 3, 1),
        ("GRU", 40, 4, 1),
        ("GRU", 24, 8, 1),
        ("LSTM", 32, 4, 8),
        ("LSTM", 32, 2, 32),
    ];
    for (op, hidden, time, batch) in forms {
        for initial in [false, true] {
            let mut net = Net::new(&[("x", &[time, batch, hidden]), ("h", &[1, batch, hidden])]);
            if !initial {
                net.inputs.truncate(1);
            }
            let made = recurrent(&mut net, op, "x", [hidden; 2], 1, initial.then_some("h"));
            let outputs: Vec<&str> = made.iter().map(String::as_str).collect();
            net.check(&format!("{op} of {hidden}, {time} steps of {batch}, {initial}"), &outputs);
        }
    }
}

#[test]
fn stacked_and_bidirectional_models() {
    for (layers, hidden, time) in [(2, 16, 6), (4, 24, 4)] {
        let mut net = Net::new(&[("x", &[time, 1, hidden])]);
        let axis = net.ints(&[1]);
        let (mut x, mut last) = ("x".to_owned(), Vec::new());
        for _ in 0..layers {
            let made = recurrent(&mut net, "LSTM", &x, [hidden; 2], 1, None);
            x = net.op("Squeeze", &[&made[0], &axis]);
            last.push(made[1].clone());
        }
        let last: Vec<&str> = last.iter().map(String::as_str).collect();
        let all = net.concat(&last, 0);
        net.check(&format!("{layers} layers"), &[&x, &all]);
    }
    let mut net = Net::new(&[("x", &[6, 1, 32])]);
    let made = recurrent(&mut net, "LSTM", "x", [32, 32], 2, None);
    let turned = net.node("Transpose", &[&made[0]], |node| node.with_ints("perm", &[0, 2, 1, 3]));
    let joined = net.ints(&[0, 0, -1]);
    let y = net.op("Reshape", &[&turned, &joined]);
    net.check("both directions", &[&y, &made[1], &made[2]]);
}

/// A GRU's step spelled out.
fn cell(net: &mut Net, x: &str, h: &str, [w, r, bw, br]: [&str; 4]) -> String {
    let transposed: With = |node| node.with_int("transB", 1);
    let (a, b) = (net.node("Gemm", &[x, w, bw], transposed), net.node("Gemm", &[h, r, br], transposed));
    let three: With = |node| node.with_int("axis", 1).with_int("num_outputs", 3);
    let (a, b) = (net.nodes("Split", &[&a], 3, three), net.nodes("Split", &[&b], 3, three));
    let gate = |net: &mut Net, at: usize| {
        let sum = net.op("Add", &[&a[at], &b[at]]);
        net.op("Sigmoid", &[&sum])
    };
    let (z, reset) = (gate(net, 0), gate(net, 1));
    let kept = net.op("Mul", &[&reset, &b[2]]);
    let sum = net.op("Add", &[&a[2], &kept]);
    let new = net.op("Tanh", &[&sum]);
    let one = net.around(&[1], 1.0, 0.0);
    let rest = net.op("Sub", &[&one, &z]);
    let (new, old) = (net.op("Mul", &[&rest, &new]), net.op("Mul", &[&z, h]));
    net.op("Add", &[&new, &old])
}

#[test]
fn an_attention_decoder_spelled_out() {
    let (width, time) = (16, 4);
    let mut net = Net::new(&[("src", &[time, 1, width]), ("tgt", &[time, 1, width])]);
    let step = |net: &mut Net, from: &str, at: i64| {
        let name = net.name();
        net.constants.push(ints(&name, &[], &[at]));
        net.node("Gather", &[from, &name], |node| node.with_int("axis", 0))
    };
    let (first, second) = (net.ints(&[0]), net.ints(&[1]));
    let parameters = |net: &mut Net, input: i64| {
        let w = net.weights(&[3 * width, input]);
        let r = net.weights(&[3 * width, width]);
        [w, r, net.around(&[3 * width], 0.0, 0.2), net.around(&[3 * width], 0.0, 0.2)]
    };
    let encoder = parameters(&mut net, width);
    let mut h = net.around(&[1, width], 0.0, 0.0);
    let mut encoded = Vec::new();
    for at in 0..time {
        let x = step(&mut net, "src", at);
        h = cell(&mut net, &x, &h, [0, 1, 2, 3].map(|k| encoder[k].as_str()));
        encoded.push(net.op("Unsqueeze", &[&h, &second]));
    }
    let encoded: Vec<&str> = encoded.iter().map(String::as_str).collect();
    let all = net.concat(&encoded, 1);
    let (wk, wq, v) =
        (net.weights(&[width, width]), net.weights(&[width, width]), net.around(&[width, 1], 0.0, 1.0));
    let keys = net.op("MatMul", &[&all, &wk]);
    let decoder = parameters(&mut net, 2 * width);
    let mut made = Vec::new();
    for at in 0..time {
        let q = net.op("MatMul", &[&h, &wq]);
        let q = net.op("Unsqueeze", &[&q, &second]);
        let sum = net.op("Add", &[&keys, &q]);
        let bent = net.op("Tanh", &[&sum]);
        let scores = net.op("MatMul", &[&bent, &v]);
        let scores = net.node("Transpose", &[&scores], |node| node.with_ints("perm", &[0, 2, 1]));
        let weights = net.op("Softmax", &[&scores]);
        let seen = net.op("MatMul", &[&weights, &all]);
        let seen = net.op("Squeeze", &[&seen, &second]);
        let x = step(&mut net, "tgt", at);
        let x = net.concat(&[&x, &seen], 1);
        h = cell(&mut net, &x, &h, [0, 1, 2, 3].map(|k| decoder[k].as_str()));
        let both = net.concat(&[&h, &seen], 1);
        let y = net.dense(&both, 2 * width, width);
        made.push(net.op("Unsqueeze", &[&y, &first]));
    }
    let made: Vec<&str> = made.iter().map(String::as_str).collect();
    let y = net.concat(&made, 0);
    net.check("an attention decoder", &[&y, &h]);
}

#[test]
fn a_transformer_layer() {
    let (time, width, heads) = (7, 32, 4);
    let mut net = Net::new(&[("x", &[1, time, width])]);
    let mut x = "x".to_owned();
    for _ in 0..2 {
        let split = net.ints(&[0, 0, heads, width / heads]);
        let part = |net: &mut Net, perm: [i64; 4]| {
            let w = net.weights(&[width, width]);
            let y = net.op("MatMul", &[&x, &w]);
            let y = net.op("Reshape", &[&y, &split]);
            net.node("Transpose", &[&y], |node| node.with_ints("perm", &perm))
        };
        let (q, k, v) =
            (part(&mut net, [0, 2, 1, 3]), part(&mut net, [0, 2, 3, 1]), part(&mut net, [0, 2, 1, 3]));
        let scores = net.op("MatMul", &[&q, &k]);
        let scale = net.around(&[1], 0.35, 0.0);
        let scores = net.op("Mul", &[&scores, &scale]);
        let weights = net.op("Softmax", &[&scores]);
        let seen = net.op("MatMul", &[&weights, &v]);
        let seen = net.node("Transpose", &[&seen], |node| node.with_ints("perm", &[0, 2, 1, 3]));
        let joined = net.ints(&[0, 0, -1]);
        let seen = net.op("Reshape", &[&seen, &joined]);
        let w = net.weights(&[width, width]);
        let seen = net.op("MatMul", &[&seen, &w]);
        let normal = |net: &mut Net, x: &str, y: &str| {
            let sum = net.op("Add", &[x, y]);
            let (scale, bias) = (net.around(&[width], 1.0, 0.2), net.around(&[width], 0.0, 0.2));
            net.op("LayerNormalization", &[&sum, &scale, &bias])
        };
        let y = normal(&mut net, &x, &seen);
        let (w1, w2) = (net.weights(&[width, 2 * width]), net.weights(&[2 * width, width]));
        let inner = net.op("MatMul", &[&y, &w1]);
        let inner = net.op("Gelu", &[&inner]);
        let outer = net.op("MatMul", &[&inner, &w2]);
        x = normal(&mut net, &y, &outer);
    }
    net.check("a transformer", &[&x]);
    // The same by the operator.
    let mut net = Net::new(&[("q", &[1, time, width]), ("k", &[1, 9, width]), ("v", &[1, 9, width])]);
    let y = net.node("Attention", &["q", "k", "v"], |node| {
        node.with_int("q_num_heads", heads).with_int("kv_num_heads", heads).with_int("is_causal", 1)
    });
    net.check("an attention", &[&y]);
}

#[test]
fn a_text_recogniser() {
    let mut net = Net::new(&[("image", &[1, 1, 32, 24])]);
    let x = net.conv_relu("image", [4, 1, 3], 1);
    let x = net.pool("MaxPool", &x, 2, 2, 0);
    let x = net.conv_relu(&x, [6, 4, 3], 1);
    let x = net.norm(&x, 6);
    let x = net.pool("MaxPool", &x, 2, 2, 0);
    let x = net.conv_relu(&x, [8, 6, 3], 1);
    let x = net
        .node("MaxPool", &[&x], |node| node.with_ints("kernel_shape", &[2, 1]).with_ints("strides", &[2, 1]));
    let x = net.node("Transpose", &[&x], |node| node.with_ints("perm", &[3, 0, 1, 2]));
    let shape = net.ints(&[6, 1, 32]);
    let x = net.op("Reshape", &[&x, &shape]);
    let made = recurrent(&mut net, "LSTM", &x, [32, 16], 2, None);
    let turned = net.node("Transpose", &[&made[0]], |node| node.with_ints("perm", &[0, 2, 1, 3]));
    let joined = net.ints(&[6, 1, 32]);
    let x = net.op("Reshape", &[&turned, &joined]);
    let (w, b) = (net.weights(&[32, 11]), net.around(&[11], 0.0, 0.2));
    let x = net.op("MatMul", &[&x, &w]);
    let x = net.op("Add", &[&x, &b]);
    let y = net.op("LogSoftmax", &[&x]);
    net.check("a text recogniser", &[&y]);
}

#[test]
fn residual_networks() {
    let mut net = Net::new(&[("image", &[1, 3, 32, 32])]);
    let x = net.conv("image", [4, 3, 7], 2, 1);
    let x = net.norm(&x, 4);
    let x = net.op("Relu", &[&x]);
    let mut x = net.pool("MaxPool", &x, 3, 2, 1);
    let mut channels = 4;
    for (filters, stride) in [(4, 1), (8, 2), (8, 1), (12, 2)] {
        let y = net.conv(&x, [filters, channels, 3], stride, 1);
        let y = net.norm(&y, filters);
        let y = net.op("Relu", &[&y]);
        let y = net.conv(&y, [filters, filters, 3], 1, 1);
        let y = net.norm(&y, filters);
        let shortcut =
            if filters == channels { x.clone() } else { net.conv(&x, [filters, channels, 1], stride, 1) };
        let sum = net.op("Add", &[&y, &shortcut]);
        (x, channels) = (net.op("Relu", &[&sum]), filters);
    }
    let y = net.classify(&x, channels);
    net.check("residual blocks", &[&y]);

    let mut net = Net::new(&[("image", &[1, 3, 32, 32])]);
    let x = net.conv_relu("image", [8, 3, 7], 2);
    let x = net.pool("MaxPool", &x, 3, 2, 1);
    let y = net.conv_relu(&x, [4, 8, 1], 1);
    let y = net.conv_relu(&y, [4, 4, 3], 1);
    let y = net.conv(&y, [16, 4, 1], 1, 1);
    let shortcut = net.conv(&x, [16, 8, 1], 1, 1);
    let sum = net.op("Sum", &[&y, &shortcut]);
    let x = net.op("Relu", &[&sum]);
    let y = net.classify(&x, 16);
    net.check("bottlenecks", &[&y]);
}

#[test]
fn networks_of_depthwise_convolutions() {
    let mut net = Net::new(&[("image", &[1, 3, 32, 32])]);
    let (low, high) = (net.around(&[], 0.0, 0.0), net.around(&[], 6.0, 0.0));
    let mut x = net.conv("image", [4, 3, 3], 2, 1);
    let mut channels = 4;
    for (filters, stride) in [(8, 1), (12, 2), (12, 1)] {
        let y = net.conv(&x, [channels, 1, 3], stride, channels);
        let y = net.norm(&y, channels);
        let y = net.op("Clip", &[&y, &low, &high]);
        let y = net.conv(&y, [filters, channels, 1], 1, 1);
        (x, channels) = (net.op("Clip", &[&y, &low, &high]), filters);
    }
    let y = net.classify(&x, channels);
    net.check("depthwise convolutions", &[&y]);

    // Shuffled channels of groups.
    let mut net = Net::new(&[("image", &[1, 3, 32, 32])]);
    let x = net.conv_relu("image", [8, 3, 3], 2);
    let x = net.pool("MaxPool", &x, 3, 2, 1);
    let y = net.conv(&x, [8, 4, 1], 1, 2);
    let y = net.op("Relu", &[&y]);
    let (apart, joined) = (net.ints(&[1, 2, 4, 8, 8]), net.ints(&[1, 8, 8, 8]));
    let y = net.op("Reshape", &[&y, &apart]);
    let y = net.node("Transpose", &[&y], |node| node.with_ints("perm", &[0, 2, 1, 3, 4]));
    let y = net.op("Reshape", &[&y, &joined]);
    let y = net.conv(&y, [8, 1, 3], 2, 8);
    let y = net.conv(&y, [8, 4, 1], 1, 2);
    let beside = net.pool("AveragePool", &x, 3, 2, 1);
    let x = net.concat(&[&y, &beside], 1);
    let x = net.op("Relu", &[&x]);
    let y = net.classify(&x, 16);
    net.check("shuffled channels", &[&y]);
}

#[test]
fn networks_of_parallel_branches() {
    let mut net = Net::new(&[("image", &[1, 3, 32, 32])]);
    let x = net.conv_relu("image", [8, 3, 3], 2);
    let mut x = net.pool("MaxPool", &x, 3, 2, 1);
    let mut channels = 8;
    for wide in [8, 12] {
        let squeezed = net.conv_relu(&x, [4, channels, 1], 1);
        let (a, b) = (net.conv_relu(&squeezed, [wide, 4, 1], 1), net.conv_relu(&squeezed, [wide, 4, 3], 1));
        (x, channels) = (net.concat(&[&a, &b], 1), 2 * wide);
    }
    let x = net.op("Dropout", &[&x]);
    let x = net.conv_relu(&x, [10, channels, 1], 1);
    let x = net.op("GlobalAveragePool", &[&x]);
    let y = net.node("Softmax", &[&x], |node| node.with_int("axis", 1));
    net.check("squeezed channels", &[&y]);

    for normal in [false, true] {
        let mut net = Net::new(&[("image", &[1, 3, 32, 32])]);
        let x = net.conv_relu("image", [8, 3, 7], 2);
        let x = net.pool("MaxPool", &x, 3, 2, 1);
        let x =
            if normal { net.norm(&x, 8) } else { net.node("LRN", &[&x], |node| node.with_int("size", 5)) };
        let a = net.conv_relu(&x, [4, 8, 1], 1);
        let b = net.conv_relu(&x, [3, 8, 1], 1);
        let b = net.conv_relu(&b, [6, 3, 3], 1);
        let c = net.conv_relu(&x, [2, 8, 1], 1);
        let c = net.conv_relu(&c, [4, 2, 5], 1);
        let d = net.pool(if normal { "AveragePool" } else { "MaxPool" }, &x, 3, 1, 1);
        let d = net.conv_relu(&d, [2, 8, 1], 1);
        let x = net.concat(&[&a, &b, &c, &d], 1);
        let y = net.classify(&x, 16);
        net.check("branches of several sizes", &[&y]);
    }

    let mut net = Net::new(&[("image", &[1, 3, 32, 32])]);
    let x = net.conv_relu("image", [6, 3, 7], 2);
    let mut x = net.pool("MaxPool", &x, 3, 2, 1);
    let mut channels = 6;
    for _ in 0..3 {
        let y = net.norm(&x, channels);
        let (scale, bias) =
            (net.around(&[channels, 1, 1], 1.0, 0.2), net.around(&[channels, 1, 1], 0.0, 0.2));
        let y = net.op("Mul", &[&y, &scale]);
        let y = net.op("Add", &[&y, &bias]);
        let y = net.op("Relu", &[&y]);
        let y = net.conv(&y, [4, channels, 3], 1, 1);
        x = net.concat(&[&x, &y], 1);
        channels += 4;
    }
    let x = net.conv(&x, [8, channels, 1], 1, 1);
    let x = net.pool("AveragePool", &x, 2, 2, 0);
    let y = net.classify(&x, 8);
    net.check("dense blocks", &[&y]);
}

#[test]
fn networks_of_plain_convolutions() {
    for (first, groups, response) in [(11, 2, true), (7, 1, true), (3, 1, false)] {
        let mut net = Net::new(&[("image", &[1, 3, 32, 32])]);
        let mut x = net.conv_relu("image", [4, 3, first], if response { 2 } else { 1 });
        if response {
            x = net.node("LRN", &[&x], |node| node.with_int("size", 5));
        }
        let x = net.pool("MaxPool", &x, 3, 2, 0);
        let x = net.conv(&x, [8, 4 / groups, 5], 1, groups);
        let x = net.op("Relu", &[&x]);
        let x = net.pool("MaxPool", &x, 3, 2, 0);
        let x = net.conv_relu(&x, [8, 8, 3], 1);
        let x = net.pool("MaxPool", &x, 2, 2, 0);
        let extent = if response { 1 } else { 3 };
        let flat = net.op("Flatten", &[&x]);
        let x = net.dense(&flat, 8 * extent * extent, 16);
        let x = net.op("Relu", &[&x]);
        let x = net.op("Dropout", &[&x]);
        let x = net.dense(&x, 16, 10);
        let y = net.op("Softmax", &[&x]);
        net.check(&format!("plain convolutions, the first of {first}"), &[&y]);
    }
}

/// What the CPU computes as one operator: maps made in a convolution's planes, a sum that is an output beside its
/// activation, maps around a pool, and a product whose sums are an output, too.
#[test]
fn groups_that_a_gpu_takes_in_parts() {
    let mut net = Net::new(&[("x", &[2, 9, 8, 9]), ("skipped", &[2, 8, 8, 9])]);
    let made = net.op("Tanh", &["x"]);
    let convolved = net.conv(&made, [8, 9, 3], 1, 1);
    let sum = net.op("Add", &[&convolved, "skipped"]);
    let active = net.op("Sigmoid", &[&sum]);
    let turned = net.op("Exp", &["skipped"]);
    let pooled = net.pool("MaxPool", &turned, 3, 2, 1);
    let damped = net.op("Tanh", &[&pooled]);
    let flat = net.op("Flatten", &[&active]);
    let scores = net.dense(&flat, 8 * 8 * 9, 10);
    let shares = net.op("Sigmoid", &[&scores]);
    net.check("groups", &[&sum, &damped, &scores, &shares]);
}
