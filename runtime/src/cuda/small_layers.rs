//! A model for tests of streams: two chains of two LSTM layers, their sum, and a product behind it, so small that the emulator
//! runs it in milliseconds.

/// Extents of states and of what is read in a step.
const WIDTH: usize = 16;
/// The input `x`; `y` has the same form.
pub(super) const SHAPE: &[usize] = &[3, 1, WIDTH];

/// A number as the wire format has it.
fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 127 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A field that has a length.
fn field(number: usize, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint(number << 3 | 2), varint(content.len()), content.to_vec()].concat()
}

/// A field that is a number.
fn count(number: usize, value: usize) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn tensor(name: &str, dtype: usize, dims: &[usize], bytes: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&dim| count(1, dim)).collect();
    field(5, [dims, count(2, dtype), field(8, name), field(9, bytes)].concat())
}

/// Weights of mixed signs, others for each name.
fn weights(name: &str, dims: &[usize]) -> Vec<u8> {
    let first: usize = name.bytes().map(usize::from).sum();
    let value = |at: usize| ((first * 5 + at * 13) % 29) as f32 / 58.0 - 0.25;
    let bytes: Vec<u8> = (0..dims.iter().product()).flat_map(|at| value(at).to_le_bytes()).collect();
    tensor(name, 1, dims, &bytes)
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[u8]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| field(1, name)).collect();
    field(1, [inputs, field(2, output), field(3, output), field(4, op), attributes.to_vec()].concat())
}

/// The bytes of the model file.
pub(super) fn layers() -> Vec<u8> {
    let hidden = field(5, [field(1, "hidden_size"), count(3, WIDTH), count(20, 2)].concat());
    let shape: Vec<u8> = SHAPE.iter().flat_map(|&extent| (extent as i64).to_le_bytes()).collect();
    let mut graph = [field(2, "layers"), tensor("form", 7, &[SHAPE.len()], &shape)].concat();
    for (from, layer) in [("x", "a"), ("a", "b"), ("x", "c"), ("c", "d")] {
        let [input, state, all] = ["input", "state", "all"].map(|what| format!("{what} {layer}"));
        graph.extend(weights(&input, &[1, 4 * WIDTH, WIDTH]));
        graph.extend(weights(&state, &[1, 4 * WIDTH, WIDTH]));
        graph.extend(node("LSTM", &[from, &input, &state], &all, &hidden));
        graph.extend(node("Reshape", &[&all, "form"], layer, &[]));
    }
    graph.extend(weights("mixed", &[WIDTH, WIDTH]));
    graph.extend(node("Add", &["b", "d"], "sum", &[]));
    graph.extend(node("MatMul", &["sum", "mixed"], "y", &[]));
    let dims: Vec<u8> = SHAPE.iter().flat_map(|&extent| field(1, count(1, extent))).collect();
    let form = field(1, [count(1, 1), field(2, dims)].concat());
    for (number, name) in [(11, "x"), (12, "y")] {
        graph.extend(field(number, [field(1, name), field(2, &form)].concat()));
    }
    [count(1, 8), field(7, graph), field(8, count(2, 17))].concat()
}
