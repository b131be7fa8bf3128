//! The nine image classifiers that the ONNX backend suite has as `light` networks, layer by layer, on images of 32 × 32 and
//! with a sixteenth of their channels: the CPU's answers with nothing on the host. Strides of first layers are what so small
//! an image allows.

use crate::network::Net;

/// A sixteenth of a published number of channels.
fn few(channels: i64) -> i64 {
    (channels / 16).max(1)
}

/// The mean of what is left of the image, `extent` in each direction, scores and shares of classes: their names.
fn classified(net: &mut Net, x: &str, channels: i64, extent: i64) -> [String; 2] {
    let pooled = net.pool("AveragePool", x, extent, 1, 0);
    let rows = net.ints(&[1, channels]);
    let rows = net.op("Reshape", &[&pooled, &rows]);
    let scores = net.dense(&rows, channels, 10);
    let shares = net.op("Softmax", &[&scores]);
    [scores, shares]
}

/// Three dense layers, the first two with dropout behind them: names of scores and shares of classes.
fn dense(net: &mut Net, x: &str, inputs: i64, dropout: bool) -> [String; 2] {
    let rows = net.ints(&[1, inputs]);
    let mut x = net.op("Reshape", &[x, &rows]);
    for inputs in [inputs, 64] {
        let y = net.dense(&x, inputs, 64);
        x = net.op("Relu", &[&y]);
        if dropout {
            x = net.op("Dropout", &[&x]);
        }
    }
    let scores = net.dense(&x, 64, 10);
    let shares = net.op("Softmax", &[&scores]);
    [scores, shares]
}

fn check(net: Net, title: &str, [scores, shares]: &[String; 2]) {
    net.check_whole(title, &[scores, shares]);
}

fn image() -> Net {
    Net::new(&[("image", &[1, 3, 32, 32])])
}

fn response(net: &mut Net, x: &str) -> String {
    net.node("LRN", &[x], |node| node.with_int("size", 5))
}

fn normal_relu(net: &mut Net, x: &str, channels: i64) -> String {
    let y = net.norm(x, channels);
    net.op("Relu", &[&y])
}

/// Moments and, apart from them, scale and bias, as one exporter wrote them.
fn scaled_relu(net: &mut Net, x: &str, channels: i64) -> String {
    let y = net.norm(x, channels);
    let [scale, bias] = [1.0, 0.0].map(|middle| net.around(&[channels], middle, 0.2));
    let axes = net.ints(&[1, 2]);
    let [scale, bias] = [scale, bias].map(|of| net.op("Unsqueeze", &[&of, &axes]));
    let y = net.op("Mul", &[&y, &scale]);
    let y = net.op("Add", &[&y, &bias]);
    net.op("Relu", &[&y])
}

#[test]
fn alexnet() {
    let mut net = image();
    let x = net.conv_relu("image", [few(96), 3, 11], 2);
    let x = response(&mut net, &x);
    let x = net.pool("MaxPool", &x, 3, 2, 0);
    let x = net.conv(&x, [few(256), few(48), 5], 1, 2);
    let x = net.op("Relu", &[&x]);
    let x = response(&mut net, &x);
    let x = net.pool("MaxPool", &x, 3, 2, 0);
    let x = net.conv_relu(&x, [few(384), few(256), 3], 1);
    let x = net.conv(&x, [few(384), few(192), 3], 1, 2);
    let x = net.op("Relu", &[&x]);
    let x = net.conv(&x, [few(256), few(192), 3], 1, 2);
    let x = net.op("Relu", &[&x]);
    let x = net.pool("MaxPool", &x, 3, 2, 0);
    let made = dense(&mut net, &x, few(256), true);
    check(net, "AlexNet", &made);
}

#[test]
fn zfnet() {
    let mut net = image();
    let x = net.conv_relu("image", [few(96), 3, 7], 2);
    let x = response(&mut net, &x);
    let x = net.pool("MaxPool", &x, 3, 2, 0);
    let x = net.conv_relu(&x, [few(256), few(96), 5], 1);
    let x = response(&mut net, &x);
    let mut x = net.pool("MaxPool", &x, 3, 2, 0);
    for [from, to] in [[256, 512], [512, 1024], [1024, 512]] {
        x = net.conv_relu(&x, [few(to), few(from), 3], 1);
    }
    let x = net.pool("MaxPool", &x, 3, 2, 0);
    let made = dense(&mut net, &x, few(512), false);
    check(net, "ZFNet", &made);
}

#[test]
fn vgg19() {
    let mut net = image();
    let (mut x, mut channels) = ("image".to_owned(), 3);
    for (layers, filters) in [(2, 64), (2, 128), (4, 256), (4, 512), (4, 512)] {
        for _ in 0..layers {
            x = net.conv_relu(&x, [few(filters), channels, 3], 1);
            channels = few(filters);
        }
        x = net.pool("MaxPool", &x, 2, 2, 0);
    }
    let made = dense(&mut net, &x, channels, true);
    check(net, "VGG-19", &made);
}

#[test]
fn squeezenet() {
    let mut net = image();
    let mut x = net.conv_relu("image", [few(64), 3, 3], 2);
    let mut channels = few(64);
    for (squeezed, wide, pooled) in [
        (16, 64, true),
        (16, 64, false),
        (32, 128, true),
        (32, 128, false),
        (48, 192, true),
        (48, 192, false),
        (64, 256, false),
        (64, 256, false),
    ] {
        if pooled {
            x = net.pool("MaxPool", &x, 3, 2, 1);
        }
        let (least, wide) = (few(2 * squeezed), few(wide));
        let y = net.conv_relu(&x, [least, channels, 1], 1);
        let (a, b) = (net.conv_relu(&y, [wide, least, 1], 1), net.conv_relu(&y, [wide, least, 3], 1));
        (x, channels) = (net.concat(&[&a, &b], 1), 2 * wide);
    }
    let x = net.op("Dropout", &[&x]);
    let x = net.conv_relu(&x, [10, channels, 1], 1);
    let scores = net.op("GlobalAveragePool", &[&x]);
    let shares = net.node("Softmax", &[&scores], |node| node.with_int("axis", 1));
    check(net, "SqueezeNet", &[scores, shares]);
}

#[test]
fn inception_of_responses() {
    let mut net = image();
    let x = net.conv_relu("image", [few(64), 3, 7], 2);
    let x = net.pool("MaxPool", &x, 3, 2, 1);
    let x = response(&mut net, &x);
    let x = net.conv_relu(&x, [few(64), few(64), 1], 1);
    let x = net.conv_relu(&x, [few(192), few(64), 3], 1);
    let mut x = response(&mut net, &x);
    let mut channels = few(192);
    // What pools before it, windows of one element, of 3 × 3 behind fewer, of 5 × 5 behind fewer, behind a pool.
    for (pooled, [one, less, three, least, five, behind]) in [
        (true, [64, 96, 128, 16, 32, 32]),
        (false, [128, 128, 192, 32, 96, 64]),
        (true, [192, 96, 208, 16, 48, 64]),
        (false, [160, 112, 224, 24, 64, 64]),
        (false, [128, 128, 256, 24, 64, 64]),
        (false, [112, 144, 288, 32, 64, 64]),
        (false, [256, 160, 320, 32, 128, 128]),
        (true, [256, 160, 320, 32, 128, 128]),
        (false, [384, 192, 384, 48, 128, 128]),
    ] {
        if pooled {
            x = net.pool("MaxPool", &x, 3, 2, 1);
        }
        let [one, less, three, least, five, behind] = [one, less, three, least, five, behind].map(few);
        let a = net.conv_relu(&x, [one, channels, 1], 1);
        let b = net.conv_relu(&x, [less, channels, 1], 1);
        let b = net.conv_relu(&b, [three, less, 3], 1);
        let c = net.conv_relu(&x, [least, channels, 1], 1);
        let c = net.conv_relu(&c, [five, least, 5], 1);
        let d = net.pool("MaxPool", &x, 3, 1, 1);
        let d = net.conv_relu(&d, [behind, channels, 1], 1);
        (x, channels) = (net.concat(&[&a, &b, &c, &d], 1), one + three + five + behind);
    }
    let made = classified(&mut net, &x, channels, 1);
    check(net, "Inception v1", &made);
}

/// A convolution with moments, scale and bias behind it.
fn scaled_conv(net: &mut Net, x: &str, shape: [i64; 3], stride: i64) -> String {
    let y = net.conv(x, shape, stride, 1);
    scaled_relu(net, &y, shape[0])
}

#[test]
fn inception_of_moments() {
    let mut net = image();
    let x = scaled_conv(&mut net, "image", [few(64), 3, 7], 2);
    let x = net.pool("MaxPool", &x, 3, 2, 1);
    let x = scaled_conv(&mut net, &x, [few(64), few(64), 1], 1);
    let x = scaled_conv(&mut net, &x, [few(192), few(64), 3], 1);
    let mut x = net.pool("MaxPool", &x, 3, 2, 1);
    let mut channels = few(192);
    // Windows of one element, or none where it goes by strides of two; of 3 × 3, and two of them, behind fewer; behind a pool.
    for (pool, [one, less, three, least, twice, behind]) in [
        ("AveragePool", [64, 64, 64, 64, 96, 32]),
        ("AveragePool", [64, 64, 96, 64, 96, 64]),
        ("MaxPool", [0, 128, 160, 64, 96, 0]),
        ("AveragePool", [224, 64, 96, 96, 128, 128]),
        ("AveragePool", [192, 96, 128, 96, 128, 128]),
        ("AveragePool", [160, 128, 160, 128, 160, 128]),
        ("AveragePool", [96, 128, 192, 160, 192, 128]),
        ("MaxPool", [0, 128, 192, 192, 256, 0]),
        ("AveragePool", [352, 192, 320, 160, 224, 128]),
        ("MaxPool", [352, 192, 320, 192, 224, 128]),
    ] {
        let stride = if one == 0 { 2 } else { 1 };
        let [less, three, least, twice] = [less, three, least, twice].map(few);
        let b = scaled_conv(&mut net, &x, [less, channels, 1], 1);
        let b = scaled_conv(&mut net, &b, [three, less, 3], stride);
        let c = scaled_conv(&mut net, &x, [least, channels, 1], 1);
        let c = scaled_conv(&mut net, &c, [twice, least, 3], 1);
        let c = scaled_conv(&mut net, &c, [twice, twice, 3], stride);
        let d = net.pool(pool, &x, 3, stride, 1);
        if stride == 2 {
            (x, channels) = (net.concat(&[&b, &c, &d], 1), three + twice + channels);
            continue;
        }
        let [one, behind] = [one, behind].map(few);
        let a = scaled_conv(&mut net, &x, [one, channels, 1], 1);
        let d = scaled_conv(&mut net, &d, [behind, channels, 1], 1);
        (x, channels) = (net.concat(&[&a, &b, &c, &d], 1), one + three + twice + behind);
    }
    let made = classified(&mut net, &x, channels, 1);
    check(net, "Inception v2", &made);
}

#[test]
fn resnet50() {
    let mut net = image();
    let x = net.conv("image", [few(64), 3, 7], 2, 1);
    let x = normal_relu(&mut net, &x, few(64));
    let mut x = net.pool("MaxPool", &x, 3, 2, 1);
    let mut channels = few(64);
    for (blocks, width, first) in [(3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2)] {
        let (width, out) = (few(width), few(4 * width));
        for block in 0..blocks {
            let stride = if block == 0 { first } else { 1 };
            let y = net.conv(&x, [width, channels, 1], stride, 1);
            let y = normal_relu(&mut net, &y, width);
            let y = net.conv(&y, [width, width, 3], 1, 1);
            let y = normal_relu(&mut net, &y, width);
            let y = net.conv(&y, [out, width, 1], 1, 1);
            let y = net.norm(&y, out);
            let shortcut = if block == 0 {
                let around = net.conv(&x, [out, channels, 1], stride, 1);
                net.norm(&around, out)
            } else {
                x.clone()
            };
            let sum = net.op("Sum", &[&y, &shortcut]);
            (x, channels) = (net.op("Relu", &[&sum]), out);
        }
    }
    let made = classified(&mut net, &x, channels, 1);
    check(net, "ResNet-50", &made);
}

#[test]
fn shufflenet() {
    let groups = 3;
    let mut net = image();
    let x = net.conv("image", [6, 3, 3], 2, 1);
    let x = normal_relu(&mut net, &x, 6);
    let mut x = net.pool("MaxPool", &x, 3, 2, 1);
    let (mut channels, mut extent) = (6, 8);
    for (units, out) in [(4, 24), (8, 48), (4, 96)] {
        let width = out / 4;
        for unit in 0..units {
            let (stride, made) = if unit == 0 { (2, out - channels) } else { (1, out) };
            // Of so few channels the first has no groups.
            let own = if channels == 6 { 1 } else { groups };
            let y = net.conv(&x, [width, channels / own, 1], 1, own);
            let y = normal_relu(&mut net, &y, width);
            let apart = net.ints(&[1, groups, width / groups, extent, extent]);
            let joined = net.ints(&[1, width, extent, extent]);
            let y = net.op("Reshape", &[&y, &apart]);
            let y = net.node("Transpose", &[&y], |node| node.with_ints("perm", &[0, 2, 1, 3, 4]));
            let y = net.op("Reshape", &[&y, &joined]);
            let y = net.conv(&y, [width, 1, 3], stride, width);
            let y = net.norm(&y, width);
            let y = net.conv(&y, [made, width / groups, 1], 1, groups);
            let y = net.norm(&y, made);
            x = if unit == 0 {
                let beside = net.pool("AveragePool", &x, 3, 2, 1);
                extent /= 2;
                let both = net.concat(&[&beside, &y], 1);
                net.op("Relu", &[&both])
            } else {
                let sum = net.op("Sum", &[&y, &x]);
                net.op("Relu", &[&sum])
            };
            channels = out;
        }
    }
    let made = classified(&mut net, &x, channels, extent);
    check(net, "ShuffleNet", &made);
}

#[test]
fn densenet121() {
    let growth = 2;
    let mut net = image();
    let x = net.conv("image", [few(128), 3, 7], 2, 1);
    let x = scaled_relu(&mut net, &x, few(128));
    let mut x = net.pool("MaxPool", &x, 3, 2, 1);
    let mut channels = few(128);
    for (block, layers) in [6, 12, 24, 16].into_iter().enumerate() {
        if block > 0 {
            let y = scaled_relu(&mut net, &x, channels);
            let y = net.conv(&y, [channels / 2, channels, 1], 1, 1);
            (x, channels) = (net.pool("AveragePool", &y, 2, 2, 0), channels / 2);
        }
        for _ in 0..layers {
            let y = scaled_relu(&mut net, &x, channels);
            let y = net.conv(&y, [4 * growth, channels, 1], 1, 1);
            let y = scaled_relu(&mut net, &y, 4 * growth);
            let y = net.conv(&y, [growth, 4 * growth, 3], 1, 1);
            (x, channels) = (net.concat(&[&x, &y], 1), channels + growth);
        }
    }
    let x = scaled_relu(&mut net, &x, channels);
    let x = net.op("GlobalAveragePool", &[&x]);
    let scores = net.conv(&x, [10, channels, 1], 1, 1);
    let shares = net.node("Softmax", &[&scores], |node| node.with_int("axis", 1));
    check(net, "DenseNet-121", &[scores, shares]);
}
