//! The format that weights are stored in, and what was stored how. On the CPU arithmetic is that of the model's type
//! whatever the format is: weights are widened as they are read. On a GPU so is that of recurrences and of products of few
//! rows; products of more rows and convolutions take both operands in the format (`cuda/families/narrow`).

use crate::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

/// The format that a session stores the weights of its recurrences, and of products of few rows, in. It halves, or
/// quarters, what a step reads; results differ from those of the model by the rounding of each weight.
///
/// On a GPU it is [`Precision::F16`] or [`Precision::Bf16`], and about convolutions and products of any number of rows as
/// well. What these multiply the weights with is rounded to the format, too, which tensor cores take alone; sums and
/// everything between operators stay as they are. A value beyond the range of [`Precision::F16`] is infinite there.
///
/// [`Precision::Tf32`] stores nothing otherwise and is for GPUs alone, those of compute capability 8.0 and above. Matrix
/// products, convolutions and attention of `f32` are computed by tensor cores there, of any operands; recurrences, products
/// of up to sixteen rows with constant weights, convolutions of one channel to a filter, attention that shows its scores or
/// keeps them in another type, and what has rows, or filters, that do not begin at multiples of 16 bytes stay as they are,
/// and so does what a plan puts on the CPU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Precision {
    /// As the model has them.
    #[default]
    F32,
    /// IEEE 754 half precision: 11 significant bits, up to 65504.
    F16,
    /// bfloat16: 8 significant bits, the range of `f32`.
    Bf16,
    /// As the model has them, and rounded to 11 significant bits, in the range of `f32`, as products read them: each term of
    /// a sum is off by up to 2⁻¹⁰ of itself. So are the weights of attention before they multiply its values.
    Tf32,
    /// Integers of 8 bits with one factor for each row of the matrix, that is for each output: steps of 1/127 of the
    /// largest weight of the row.
    Int8,
}

impl FromStr for Precision {
    type Err = Error;

    /// `f32`, `f16`, `bf16`, `tf32` or `int8`.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            "tf32" => Ok(Self::Tf32),
            "int8" => Ok(Self::Int8),
            _ => {
                let problem = format!("is `{text}`; `f32`, `f16`, `bf16`, `tf32` and `int8` are possible");
                Err(Error::Setting { name: "precision", problem })
            }
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Tf32 => "tf32",
            Self::Int8 => "int8",
        })
    }
}

/// The least compute capability whose tensor cores multiply tf32.
const TF32_CAPABILITY: u32 = 80;

impl Precision {
    /// What weights are stored in where they stay the model's until they are multiplied.
    pub(crate) fn stored(self) -> Self {
        if self == Self::Tf32 { Self::F32 } else { self }
    }

    /// Whether a GPU of this compute capability, ten times the major number plus the minor one, has it.
    pub(crate) fn check_capability(self, capability: u32) -> Result<(), Error> {
        if self != Self::Tf32 || capability >= TF32_CAPABILITY {
            return Ok(());
        }
        let (major, minor) = (capability / 10, capability % 10);
        let problem = format!(
            "is `tf32`, which GPUs of compute capability 8.0 and above multiply; this one has {major}.{minor}"
        );
        Err(Error::Setting { name: "precision", problem })
    }
}

/// Why weights are stored as the model has them, or read so with [`Precision::Tf32`], though another format was asked for.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Kept {
    /// A weight is outside the format's range.
    OutOfRange {
        /// That weight, as the model has it.
        weight: f64,
    },
    /// The product has more rows than reading the weights is worth saving for.
    ManyRows {
        /// How many it has.
        rows: usize,
    },
    /// The product has so few rows that reading the weights takes its time, not multiplying them.
    FewRows {
        /// How many it has.
        rows: usize,
    },
    /// Rows of an operand do not begin at multiples of 16 bytes, which tensor cores are given at once.
    Unaligned,
    /// The operator runs on a GPU, and its kernels do not read weights of that format.
    NoKernel,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { weight } => write!(f, "a weight of {weight:e} is outside the format's range"),
            Self::ManyRows { rows } => write!(f, "a product of {rows} rows is not bound by reading weights"),
            Self::FewRows { rows } => write!(f, "a product of {rows} rows is bound by reading weights"),
            Self::Unaligned => f.write_str("rows of an operand do not begin at multiples of 16 bytes"),
            Self::NoKernel => f.write_str("its GPU kernels do not read weights of that format"),
        }
    }
}

/// The weights of one operator.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct StoredWeights {
    /// The node; behind the names of those whose bodies it stands in, with `/`.
    pub node: Arc<str>,
    /// Its operator.
    pub op: String,
    /// Position of the weights among the node's inputs.
    pub input: usize,
    /// How many there are.
    pub weights: usize,
    /// Bytes that the model has them in.
    pub model_bytes: usize,
    /// Bytes that the session has them in, padding and factors included.
    pub bytes: usize,
    /// Why they are stored as the model has them, where they are.
    pub kept: Option<Kept>,
}

impl StoredWeights {
    /// Those of input `input` of a node that is not known yet.
    pub(crate) fn unnamed(
        input: usize,
        weights: usize,
        [model_bytes, bytes]: [usize; 2],
        kept: Option<Kept>,
    ) -> Self {
        Self { node: "".into(), op: String::new(), input, weights, model_bytes, bytes, kept }
    }

    /// Gives them to `node`, or to a node inside its bodies.
    pub(crate) fn name(&mut self, node: &str, op: &str) {
        if self.op.is_empty() {
            self.node = node.into();
            op.clone_into(&mut self.op);
        } else {
            self.node = format!("{node}/{}", self.node).into();
        }
    }
}

/// What [`SessionBuilder::with_precision`](crate::SessionBuilder::with_precision) came to.
#[derive(Clone, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct Stored {
    /// What was asked for.
    pub precision: Precision,
    /// The weights that the setting is about, in the order of the nodes. Empty for [`Precision::F32`]. For
    /// [`Precision::Tf32`] their bytes are the model's, and those that nothing is told of in `kept` are multiplied so.
    pub weights: Vec<StoredWeights>,
}

impl Stored {
    /// Bytes of these weights in the model.
    pub fn model_bytes(&self) -> usize {
        self.weights.iter().map(|w| w.model_bytes).sum()
    }

    /// Bytes of these weights in the session.
    pub fn bytes(&self) -> usize {
        self.weights.iter().map(|w| w.bytes).sum()
    }
}

/// How far an output is from that of another session: [`Session::deviations`](crate::Session::deviations).
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Deviation {
    /// The output.
    pub name: Arc<str>,
    /// The largest difference of two elements; infinite where one of them alone is no number.
    pub absolute: f64,
    /// The largest difference over the largest element of the other session's output.
    pub relative: f64,
}

/// The format for what is packed, and what was packed so far.
#[derive(Debug, Default)]
pub(crate) struct Storing {
    pub(crate) precision: Precision,
    notes: Mutex<Vec<StoredWeights>>,
}

impl Storing {
    /// Packing into `precision`.
    pub(crate) fn new(precision: Precision) -> Self {
        Self { precision, notes: Mutex::default() }
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Vec<StoredWeights>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes `weights` weights of input `input` of the node that packs.
    pub(crate) fn note(
        &self,
        input: usize,
        weights: usize,
        [model_bytes, bytes]: [usize; 2],
        kept: Option<Kept>,
    ) {
        if self.precision.stored() != Precision::F32 {
            self.notes().push(StoredWeights::unnamed(input, weights, [model_bytes, bytes], kept));
        }
    }

    /// How much is noted.
    pub(crate) fn count(&self) -> usize {
        self.notes().len()
    }

    /// Gives what is noted from `first` on to `node`, or to nodes inside its bodies.
    pub(crate) fn name(&self, first: usize, node: &str, op: &str) {
        self.notes().iter_mut().skip(first).for_each(|note| note.name(node, op));
    }

    /// All that was noted.
    pub(crate) fn finish(self) -> Stored {
        let weights = self.notes.into_inner().unwrap_or_else(PoisonError::into_inner);
        Stored { precision: self.precision, weights }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_no_others() {
        for precision in [Precision::F32, Precision::F16, Precision::Bf16, Precision::Tf32, Precision::Int8] {
            assert_eq!(precision.to_string().parse::<Precision>().expect("a name"), precision);
        }
        for wrong in ["", "F16", "fp16", "half", "float16", "int4", "f16 "] {
            let error = wrong.parse::<Precision>().expect_err(wrong);
            assert!(error.to_string().contains("precision"), "{error}");
        }
    }

    #[test]
    fn tf32_is_for_gpus_that_have_it() {
        for (capability, told) in [(61, "6.1"), (75, "7.5")] {
            let error = Precision::Tf32.check_capability(capability).expect_err("refused").to_string();
            assert!(error.contains("precision") && error.contains(told), "{error}");
            for other in [Precision::F32, Precision::F16, Precision::Bf16] {
                other.check_capability(capability).expect("has it");
            }
        }
        for capability in [80, 89, 90, 120] {
            Precision::Tf32.check_capability(capability).expect("has it");
        }
    }

    #[test]
    fn notes_get_the_names_of_the_nodes_around_them() {
        let storing = Storing::new(Precision::F16);
        storing.note(2, 8, [32, 16], None);
        storing.name(0, "inner", "LSTM");
        storing.note(1, 4, [16, 16], Some(Kept::ManyRows { rows: 20 }));
        storing.name(1, "other", "MatMul");
        storing.name(0, "scan", "Scan");
        let stored = storing.finish();
        let names: Vec<_> = stored.weights.iter().map(|w| (&*w.node, w.op.as_str())).collect();
        assert_eq!(names, [("scan/inner", "LSTM"), ("scan/other", "MatMul")]);
        assert_eq!((stored.model_bytes(), stored.bytes()), (48, 32));
    }
}
