//! The ways in which a file stores tensors: raw bytes, and for each element type its list of numbers or texts, packed or one
//! by one. Raw bytes are the file's own.

use crate::allocations::peak_of;
use crate::outcome::{limited, load};
use half::{bf16, f16};
use recurve::testing::{Tolerance, compare};
use recurve::values::Bool;
use recurve::{Session, Tensor, Value};
use recurve_tests::wire::{Message, code, fixed, graph, model, node, tensor, untyped};

/// Fields of `TensorProto`.
const FLOATS: u64 = 4;
const INT32: u64 = 5;
const TEXTS: u64 = 6;
const INT64: u64 = 7;
const DOUBLES: u64 = 10;
const UINT64: u64 = 11;

const EXACTLY: Tolerance = Tolerance { relative: 0.0, absolute: 0.0 };

/// `TensorProto` without data.
fn bare(code: i64, count: usize) -> Message {
    Message::new().int(1, count as i64).int(2, code).text(8, "w")
}

/// What a model that gives its only constant gives.
fn given(constant: Message) -> Value {
    let session = load(model(&graph(&[], &[untyped("w")], &[], &[constant]))).expect("loads");
    let outputs = session.run::<&Tensor>([]).expect("runs");
    outputs.get("w").expect("w").clone()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The same data in `field`, one by one and packed.
fn listed(code: i64, field: u64, values: &[i64]) -> [Message; 2] {
    let one_by_one = values.iter().fold(bare(code, values.len()), |m, &value| m.int(field, value));
    let packed: Vec<u8> = values.iter().flat_map(|&value| varint(value as u64)).collect();
    [one_by_one, bare(code, values.len()).bytes(field, &packed)]
}

#[test]
fn every_type_is_read_from_its_list() {
    let shape = [3usize];
    let ints = [1i64, 0, 5];
    let signed = [-3i64, 0, 100];
    let of = |values: [i64; 3]| values;
    let bits = |values: [f32; 3], bits: fn(f32) -> u16| values.map(|v| i64::from(bits(v)));
    let halves = [1.5f32, -0.0, -2.25];
    fn made<T: recurve::Element>(data: Vec<T>) -> Value {
        Tensor::new(&[3], data).expect("three").into()
    }
    let cases: Vec<(i64, u64, [i64; 3], Value)> = vec![
        (2, INT32, of(ints), made(ints.map(|v| v as u8).to_vec())),
        (3, INT32, of(signed), made(signed.map(|v| v as i8).to_vec())),
        (4, INT32, of(ints), made(ints.map(|v| v as u16).to_vec())),
        (5, INT32, of(signed), made(signed.map(|v| v as i16).to_vec())),
        (code::I32, INT32, of(signed), made(signed.map(|v| v as i32).to_vec())),
        (code::I64, INT64, of(signed), made(signed.to_vec())),
        (code::BOOL, INT32, of([1, 0, 1]), made([true, false, true].map(Bool::new).to_vec())),
        (10, INT32, bits(halves, |v| f16::from_f32(v).to_bits()), made(halves.map(f16::from_f32).to_vec())),
        (16, INT32, bits(halves, |v| bf16::from_f32(v).to_bits()), made(halves.map(bf16::from_f32).to_vec())),
        (12, UINT64, of(ints), made(ints.map(|v| v as u32).to_vec())),
        (13, UINT64, of([-1, 0, 5]), made(vec![u64::MAX, 0, 5])),
    ];
    for (code, field, values, want) in cases {
        for message in listed(code, field, &values) {
            compare(&given(message), &want, EXACTLY).unwrap_or_else(|e| panic!("type {code}: {e:?}"));
        }
    }
    let floats = [1.5f32, f32::MIN_POSITIVE, -7.0];
    let doubles = floats.map(|v| f64::from(v) / 3.0);
    let packed = |bytes: Vec<u8>, code, field| bare(code, 3).bytes(field, &bytes);
    let (want_floats, want_doubles) = (made(floats.to_vec()), made(doubles.to_vec()));
    let float_bytes: Vec<u8> = floats.iter().flat_map(|v| v.to_le_bytes()).collect();
    let double_bytes: Vec<u8> = doubles.iter().flat_map(|v| v.to_le_bytes()).collect();
    let one_by_one = floats.iter().fold(bare(code::F32, 3), |m, &v| m.float(FLOATS, v));
    for (message, want) in [
        (one_by_one, &want_floats),
        (packed(float_bytes.clone(), code::F32, FLOATS), &want_floats),
        (packed(double_bytes.clone(), code::F64, DOUBLES), &want_doubles),
        (tensor("w", code::F32, &[3], &float_bytes), &want_floats),
        (tensor("w", code::F64, &[3], &double_bytes), &want_doubles),
    ] {
        compare(&given(message), want, EXACTLY).expect("floats");
    }
    let texts = ["a", "", "λ"];
    let message = texts.iter().fold(bare(code::STRING, 3), |m, text| m.text(TEXTS, text));
    let want: Value = Tensor::strings(&shape, texts.map(str::to_owned).to_vec()).expect("three").into();
    compare(&given(message), &want, EXACTLY).expect("texts");
}

#[test]
fn types_of_less_than_a_byte_are_read_from_both() {
    // Two elements in a byte, the first in its low half: 1, -2 and 7.
    let nibbles = [0xe1u8, 0x07];
    let listed = nibbles.iter().fold(bare(22, 3), |m, &byte| m.int(INT32, i64::from(byte)));
    let raw = tensor("w", 22, &[3], &nibbles);
    for constant in [listed, raw] {
        let cast = node("Cast", &["w"], &["y"]).with_int("to", code::I32);
        let session = load(model(&graph(&[], &[untyped("y")], &[cast], &[constant]))).expect("loads");
        let outputs = session.run::<&Tensor>([]).expect("runs");
        assert_eq!(outputs.tensor("y").expect("y").to_vec::<i32>(), Some(vec![1, -2, 7]));
    }
}

/// What the cast of a constant of element type `code` to f32 gives.
fn as_floats(code: i64, constant: Message) -> Vec<f32> {
    let cast = node("Cast", &["w"], &["y"]).with_int("to", code::F32);
    let session = load(model(&graph(&[], &[untyped("y")], &[cast], &[constant]))).expect("loads");
    let outputs = session.run::<&Tensor>([]).unwrap_or_else(|e| panic!("type {code}: {e:?}"));
    outputs.tensor("y").expect("y").to_vec().expect("floats")
}

#[test]
fn floats_of_six_bits_are_read_from_both() {
    // Five elements: a whole group of four in three bytes, and one of the next. In a list, one per entry.
    let codes = [0x01i64, 0x3f, 0x20, 0x1f, 0x28];
    let bytes = [0xc1, 0x0f, 0x7e, 0x28];
    for (code, want) in [(27, [0.125, -7.5, -0.0, 7.5, -1.0]), (28, [0.0625, -28.0, -0.0, 28.0, -0.5])] {
        let listed = codes.iter().fold(bare(code, 5), |m, &entry| m.int(INT32, entry));
        for constant in [listed, tensor("w", code, &[5], &bytes)] {
            assert_eq!(as_floats(code, constant), want, "type {code}");
        }
        for wrong in [0x40, -1] {
            let constant = codes[..4].iter().fold(bare(code, 5), |m, &entry| m.int(INT32, entry));
            let refused = load(model(&graph(&[], &[untyped("w")], &[], &[constant.int(INT32, wrong)])));
            let message = refused.expect_err("an entry of more than six bits").to_string();
            assert!(message.contains("`w`") && message.contains("out of range"), "{message}");
        }
    }
}

/// Every type of the specification that no Rust type holds, from its list and from raw bytes.
#[test]
fn the_other_types_are_read_from_both() {
    // Of 8-bit floats the code of one, of powers of two that of four; packed, the first element in the low bits.
    for (code, entries, want) in [
        (17, &[0x38i64, 0xb8, 0x7e][..], &[1.0f32, -1.0, 448.0][..]),
        (18, &[0x40, 0xc0, 0x7f], &[1.0, -1.0, 240.0]),
        (19, &[0x3c, 0xbc, 0x7b], &[1.0, -1.0, 57_344.0]),
        (20, &[0x40, 0xc0, 0x7f], &[1.0, -1.0, 57_344.0]),
        (24, &[0x7f, 0x81, 0x7e], &[1.0, 4.0, 0.5]),
        (21, &[0xe1, 0x07], &[1.0, 14.0, 7.0]),
        (22, &[0xe1, 0x07], &[1.0, -2.0, 7.0]),
        (23, &[0xf2, 0x07], &[1.0, -6.0, 6.0]),
        (25, &[0b0010_1101], &[1.0, 3.0, 2.0]),
        (26, &[0b0010_1101], &[1.0, -1.0, -2.0]),
    ] {
        let raw: Vec<u8> = entries.iter().map(|&entry| entry as u8).collect();
        let listed = entries.iter().fold(bare(code, 3), |m, &entry| m.int(INT32, entry));
        for constant in [listed, tensor("w", code, &[3], &raw)] {
            assert_eq!(as_floats(code, constant), want, "type {code}");
        }
    }
    // Complex numbers, which no operator takes, are given as they are: pairs, one behind the other.
    let pairs = [1.5f32, -2.0, 0.25, 8.0];
    let (single, double): (Vec<u8>, Vec<u8>) = (
        pairs.iter().flat_map(|v| v.to_le_bytes()).collect(),
        pairs.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect(),
    );
    for (code, field, bytes) in [(14, FLOATS, single), (15, DOUBLES, double)] {
        for constant in [bare(code, 2).bytes(field, &bytes), tensor("w", code, &[2], &bytes)] {
            let value = given(constant);
            let read = value.as_tensor().expect("a tensor");
            assert_eq!((read.shape(), read.bytes()), (&[2usize][..], &bytes[..]), "type {code}");
        }
    }
}

#[test]
fn raw_bytes_are_read_from_the_file_in_place() {
    // 32 MiB of rows, of which one is taken.
    let (rows, columns) = (1usize << 16, 128usize);
    let data: Vec<u8> = (0..rows * columns).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let weight = tensor("w", code::F32, &[rows as i64, columns as i64], &data);
    let taken = node("Gather", &["w", "at"], &["y"]);
    let bytes = model(&graph(&[fixed("at", code::I64, &[1])], &[untyped("y")], &[taken], &[weight]));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, bytes.into_bytes()).expect("written");
    let at = Tensor::new(&[1], vec![7i64]).expect("one");
    let run = |session: &Session| {
        let outputs = session.run([("at", &at)]).expect("runs");
        outputs.tensor("y").expect("y").to_vec::<f32>().expect("floats")
    };
    let (row, peak) = peak_of(|| run(&limited().load(&path).expect("loads")));
    assert_eq!(row, (7 * columns..8 * columns).map(|i| i as f32).collect::<Vec<_>>());
    assert!(peak < 1 << 20, "{peak} bytes were allocated for a weight that lies in the file");
}
