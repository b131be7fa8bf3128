//! A writer of protobuf messages and of the ONNX messages that tests need, so that a test can write what no
//! exporter would. Field numbers are those of `onnx.proto`.

/// Element type numbers of `TensorProto.DataType`.
pub mod code {
    /// float32
    pub const F32: i64 = 1;
    /// uint8
    pub const U8: i64 = 2;
    /// int32
    pub const I32: i64 = 6;
    /// int64
    pub const I64: i64 = 7;
    /// string
    pub const STRING: i64 = 8;
    /// bool
    pub const BOOL: i64 = 9;
    /// float16
    pub const F16: i64 = 10;
    /// `DOUBLE`
    pub const F64: i64 = 11;
    /// complex64
    pub const COMPLEX64: i64 = 14;
    /// float8e4m3fn
    pub const F8: i64 = 17;
}

/// A message under construction.
#[derive(Clone, Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// Without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// The encoded message.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// An integer.
    pub fn int(mut self, field: u64, value: i64) -> Self {
        self.raw_varint(field << 3);
        self.raw_varint(value as u64);
        self
    }

    /// A 32-bit float.
    pub fn float(mut self, field: u64, value: f32) -> Self {
        self.raw_varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Bytes.
    pub fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.raw_varint(field << 3 | 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// Text.
    pub fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// Another message.
    pub fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    fn texts(self, field: u64, values: &[&str]) -> Self {
        values.iter().fold(self, |m, value| m.text(field, value))
    }
}

/// An extent of a declared shape.
#[derive(Clone, Copy, Debug)]
pub enum Extent<'a> {
    /// A number.
    N(i64),
    /// A name.
    Name(&'a str),
}

/// `ValueInfoProto` of a tensor.
pub fn value(name: &str, code: i64, shape: &[Extent<'_>]) -> Message {
    let shape = shape.iter().fold(Message::new(), |m, extent| {
        let dim = match extent {
            Extent::N(n) => Message::new().int(1, *n),
            Extent::Name(name) => Message::new().text(2, name),
        };
        m.message(1, &dim)
    });
    let tensor = Message::new().int(1, code).message(2, &shape);
    Message::new().text(1, name).message(2, &Message::new().message(1, &tensor))
}

/// [`value`] with extents that are numbers.
pub fn fixed(name: &str, code: i64, shape: &[i64]) -> Message {
    let shape: Vec<Extent<'_>> = shape.iter().map(|&n| Extent::N(n)).collect();
    value(name, code, &shape)
}

/// `ValueInfoProto` without a type.
pub fn untyped(name: &str) -> Message {
    Message::new().text(1, name)
}

/// `TensorProto` with raw bytes.
pub fn tensor(name: &str, code: i64, shape: &[i64], raw: &[u8]) -> Message {
    shape.iter().fold(Message::new(), |m, &n| m.int(1, n)).int(2, code).text(8, name).bytes(9, raw)
}

/// `TensorProto` of 64-bit integers; without a shape a scalar.
pub fn ints(name: &str, shape: &[i64], data: &[i64]) -> Message {
    tensor(name, code::I64, shape, &data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

/// `TensorProto` of 32-bit floats.
pub fn floats(name: &str, shape: &[i64], data: &[f32]) -> Message {
    tensor(name, code::F32, shape, &data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

/// `TensorProto` whose data lies in another file: entries are keys and values of `external_data`.
pub fn external(name: &str, code: i64, shape: &[i64], entries: &[(&str, &str)]) -> Message {
    let m = shape.iter().fold(Message::new(), |m, &n| m.int(1, n)).int(2, code).text(8, name);
    entries.iter().fold(m, |m, (key, value)| m.message(13, &entry(key, value))).int(14, 1)
}

fn entry(key: &str, value: &str) -> Message {
    Message::new().text(1, key).text(2, value)
}

/// `NodeProto`, of operator `op`.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    Message::new().texts(1, inputs).texts(2, outputs).text(4, op)
}

/// What is added to a node.
impl Message {
    /// With a name.
    pub fn named(self, name: &str) -> Self {
        self.text(3, name)
    }

    /// Of a domain other than the standard one.
    pub fn in_domain(self, domain: &str) -> Self {
        self.text(7, domain)
    }

    /// With an integer attribute.
    pub fn with_int(self, name: &str, value: i64) -> Self {
        self.message(5, &Message::new().text(1, name).int(3, value).int(20, 2))
    }

    /// With an attribute that is a number.
    pub fn with_float(self, name: &str, value: f32) -> Self {
        self.message(5, &Message::new().text(1, name).float(2, value).int(20, 1))
    }

    /// With an attribute that is text.
    pub fn with_text(self, name: &str, value: &str) -> Self {
        self.message(5, &Message::new().text(1, name).text(4, value).int(20, 3))
    }

    /// With an attribute of integers.
    pub fn with_ints(self, name: &str, values: &[i64]) -> Self {
        let list = values.iter().fold(Message::new().text(1, name), |m, &value| m.int(8, value));
        self.message(5, &list.int(20, 7))
    }

    /// With a tensor attribute.
    pub fn with_tensor(self, name: &str, value: &Message) -> Self {
        self.message(5, &Message::new().text(1, name).message(5, value).int(20, 4))
    }

    /// With a graph attribute.
    pub fn with_graph(self, name: &str, value: &Message) -> Self {
        self.message(5, &Message::new().text(1, name).message(6, value).int(20, 5))
    }
}

/// `GraphProto`.
pub fn graph(
    inputs: &[Message],
    outputs: &[Message],
    nodes: &[Message],
    initializers: &[Message],
) -> Message {
    let m = nodes.iter().fold(Message::new(), |m, node| m.message(1, node)).text(2, "graph");
    let m = initializers.iter().fold(m, |m, tensor| m.message(5, tensor));
    let m = inputs.iter().fold(m, |m, info| m.message(11, info));
    outputs.iter().fold(m, |m, info| m.message(12, info))
}

/// `FunctionProto` of domain `local` that imports the standard operators and its own domain.
pub fn function(name: &str, inputs: &[&str], outputs: &[&str], nodes: &[Message]) -> Message {
    let m = Message::new().text(1, name).texts(4, inputs).texts(5, outputs);
    let m = nodes.iter().fold(m, |m, node| m.message(7, node));
    m.message(9, &opset("", OPSET)).message(9, &opset("local", 1)).text(10, "local")
}

fn opset(domain: &str, version: i64) -> Message {
    Message::new().text(1, domain).int(2, version)
}

/// The operator set of models written here.
pub const OPSET: i64 = 21;

/// `ModelProto` of `graph`, with the standard operators.
pub fn model(graph: &Message) -> Message {
    model_of(10, &[("", OPSET), ("local", 1)], graph)
}

/// `ModelProto` with an IR version and operator sets.
pub fn model_of(ir: i64, opsets: &[(&str, i64)], graph: &Message) -> Message {
    let m = Message::new().int(1, ir).message(7, graph);
    opsets.iter().fold(m, |m, (domain, version)| m.message(8, &opset(domain, *version)))
}

/// What is added to a model.
impl Message {
    /// With a function.
    pub fn with_function(self, function: &Message) -> Self {
        self.message(25, function)
    }

    /// With an entry of metadata.
    pub fn with_metadata(self, key: &str, value: &str) -> Self {
        self.message(14, &entry(key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_encoded_as_protobuf_says() {
        let inner = Message::new().int(1, 150);
        let m = Message::new().message(3, &inner).text(2, "ab").float(4, 1.0).int(5, -1);
        let want: &[u8] = &[
            0x1a, 3, 0x08, 0x96, 0x01, 0x12, 2, b'a', b'b', 0x25, 0, 0, 0x80, 0x3f, 0x28, 0xff, 0xff, 0xff,
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
        ];
        assert_eq!(m.into_bytes(), want);
    }
}
