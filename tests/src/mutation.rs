//! Seeded mutation of ONNX files: of bytes, and of the protobuf messages that they hold.

mod messages;

use messages::{Field, Kind, Value};
use recurve::testing::Gen;

/// Numbers at which readers and operators go wrong.
const EDGES: [i64; 22] = [
    0,
    1,
    -1,
    2,
    3,
    5,
    7,
    8,
    16,
    127,
    128,
    255,
    1 << 15,
    1 << 31,
    (1 << 31) - 1,
    -(1 << 31),
    1 << 32,
    1 << 40,
    1 << 62,
    i64::MAX,
    i64::MAX - 1,
    i64::MIN,
];

/// Mutates models with draws from a seed.
#[derive(Debug)]
pub struct Mutator {
    random: Gen,
    operators: Vec<&'static str>,
}

impl Mutator {
    /// A mutator of `seed`.
    pub fn new(seed: u64) -> Self {
        let operators = recurve::testing::operators().iter().map(|operator| operator.name).collect();
        Self { random: Gen::new(seed), operators }
    }

    /// A mutant of `model`.
    pub fn mutate(&mut self, model: &[u8]) -> Vec<u8> {
        let parsed = if self.random.chance(0.8) { messages::parse(model, Kind::Model) } else { None };
        let mut bytes = match parsed {
            Some(mut fields) => {
                for _ in 0..self.count() {
                    self.mutate_messages(&mut fields);
                }
                messages::encode(&fields)
            }
            None => {
                let mut bytes = model.to_vec();
                for _ in 0..self.count() {
                    self.mutate_bytes(&mut bytes);
                }
                bytes
            }
        };
        if self.random.chance(0.05) {
            self.mutate_bytes(&mut bytes);
        }
        bytes
    }

    /// Mostly one, sometimes a few.
    fn count(&mut self) -> usize {
        *self.random.pick(&[1, 1, 1, 1, 2, 3])
    }

    fn mutate_bytes(&mut self, bytes: &mut Vec<u8>) {
        let random = &mut self.random;
        if bytes.is_empty() {
            bytes.push(random.bits() as u8);
            return;
        }
        let at = random.size(0, bytes.len() - 1);
        let end = (at + random.size(1, 16)).min(bytes.len());
        // Most changes keep the length, and with it the messages around.
        match random.size(0, 9) {
            7..=9 | 0 => bytes[at] ^= 1 << random.size(0, 7),
            1 => bytes[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            2 => bytes[at] = random.bits() as u8,
            3 => {
                bytes.drain(at..end);
            }
            4 => {
                let part = bytes[at..end].to_vec();
                let to = random.size(0, bytes.len());
                bytes.splice(to..to, part);
            }
            5 => bytes.insert(at, random.bits() as u8),
            _ => bytes.truncate(at),
        }
    }

    /// Changes one field, anywhere.
    fn mutate_messages(&mut self, root: &mut Vec<Field>) {
        let texts = messages::texts(root);
        let count = messages::count(root);
        if count == 0 {
            return;
        }
        let at = self.random.size(0, count - 1);
        let donor = messages::nth(root, self.random.size(0, count - 1)).cloned();
        let Some((siblings, index)) = messages::nth_mut(root, at) else { return };
        let random = &mut self.random;
        match random.size(0, 15) {
            0 => {
                siblings.remove(index);
            }
            1 => {
                let copy = siblings[index].clone();
                let to = random.size(0, siblings.len());
                siblings.insert(to, copy);
            }
            2 => {
                let other = random.size(0, siblings.len() - 1);
                siblings.swap(index, other);
            }
            // A field of elsewhere, in the place of one of the same meaning or of any.
            3 | 4 => {
                if let Some(donor) = donor {
                    if donor.number == siblings[index].number || random.chance(0.3) {
                        siblings[index].value = donor.value;
                    } else {
                        siblings.push(donor);
                    }
                }
            }
            _ => {
                let field = &mut siblings[index];
                match &mut field.value {
                    Value::Varint(number) => {
                        *number = match random.size(0, 4) {
                            0 => number.wrapping_add(1),
                            1 => number.wrapping_sub(1),
                            2 => random.bits() >> random.size(0, 63),
                            _ => *random.pick(&EDGES) as u64,
                        };
                    }
                    Value::Fixed32(bytes) => {
                        let float =
                            *random.pick(&[0.0, -0.0, 1.0, -1.0, f32::NAN, f32::INFINITY, 1e30, -1e-30]);
                        *bytes = float.to_le_bytes();
                    }
                    Value::Fixed64(bytes) => *bytes = random.bits().to_le_bytes(),
                    Value::Text(text) => {
                        // Fields of one number often mean the same: a name for a name, an operator for one.
                        let same: Vec<&Vec<u8>> = texts
                            .iter()
                            .filter(|(number, _)| *number == field.number)
                            .map(|(_, t)| t)
                            .collect();
                        *text = match random.size(0, 9) {
                            0 => Vec::new(),
                            1 | 2 => random.pick(&self.operators).as_bytes().to_vec(),
                            3 if !texts.is_empty() => random.pick(&texts).1.clone(),
                            _ if !same.is_empty() => (*random.pick(&same)).clone(),
                            _ => b"name".to_vec(),
                        };
                    }
                    Value::Packed(numbers) => match random.size(0, 3) {
                        0 => numbers.clear(),
                        1 => numbers.push(*random.pick(&EDGES) as u64),
                        _ if !numbers.is_empty() => {
                            let at = random.size(0, numbers.len() - 1);
                            numbers[at] = *random.pick(&EDGES) as u64;
                        }
                        _ => {}
                    },
                    Value::Bytes(bytes) => {
                        if random.chance(0.5) && bytes.len() >= 8 {
                            // As one integer of 64 bits: axes, shapes and counts are stored so.
                            let at = random.size(0, bytes.len() / 8 - 1) * 8;
                            bytes[at..at + 8].copy_from_slice(&random.pick(&EDGES).to_le_bytes());
                        } else {
                            self.mutate_bytes(bytes);
                        }
                    }
                    Value::Message(_, fields) => fields.truncate(random.size(0, fields.len())),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{code, fixed, graph, model, node, untyped};

    #[test]
    fn mutants_are_the_same_for_the_same_seed_and_differ_otherwise() {
        let nodes = [node("Relu", &["x"], &["y"]).with_ints("axes", &[1, 2])];
        let original =
            model(&graph(&[fixed("x", code::F32, &[2])], &[untyped("y")], &nodes, &[])).into_bytes();
        let mutants: Vec<Vec<u8>> = (0..200).map(|seed| Mutator::new(seed).mutate(&original)).collect();
        let again: Vec<Vec<u8>> = (0..200).map(|seed| Mutator::new(seed).mutate(&original)).collect();
        assert_eq!(mutants, again);
        let differing = mutants.iter().filter(|mutant| **mutant != original).count();
        assert!(differing > 150, "{differing}");
    }
}
