//! What LSTM, GRU and RNN have in common: their attributes as typed fields, and the shapes of their inputs and
//! outputs.
//!
//! Inputs: X, W, R, B, sequence_lens, initial_h, and for LSTM initial_c and P. Outputs: Y, Y_h, and for LSTM
//! Y_c. Opset 14 added `layout`; opset 22 added bfloat16.

use super::Cost;
use super::attributes::NodeSpec;
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use std::sync::Arc;

/// Which recurrence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cell {
    /// Gates i, o, f, c.
    Lstm {
        /// `f = 1 − i`.
        input_forget: bool,
    },
    /// Gates z, r, h.
    Gru {
        /// `r ⊙ (R·h + b)` instead of `R·(r ⊙ h) + b`.
        linear_before_reset: bool,
    },
    /// One gate.
    Rnn,
}

impl Cell {
    /// Number of gates.
    pub(crate) fn gates(self) -> usize {
        match self {
            Self::Lstm { .. } => 4,
            Self::Gru { .. } => 3,
            Self::Rnn => 1,
        }
    }

    /// Functions per direction when none are given.
    fn functions(self) -> &'static [Function] {
        match self {
            Self::Lstm { .. } => &[Function::Sigmoid, Function::Tanh, Function::Tanh],
            Self::Gru { .. } => &[Function::Sigmoid, Function::Tanh],
            Self::Rnn => &[Function::Tanh],
        }
    }

    fn inputs(self) -> usize {
        if matches!(self, Self::Lstm { .. }) { 8 } else { 6 }
    }
}

/// An activation function by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Function {
    Relu,
    Tanh,
    Sigmoid,
    Affine,
    LeakyRelu,
    ThresholdedRelu,
    ScaledTanh,
    HardSigmoid,
    Elu,
    Softsign,
    Softplus,
}

impl Function {
    fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "relu" => Self::Relu,
            "tanh" => Self::Tanh,
            "sigmoid" => Self::Sigmoid,
            "affine" => Self::Affine,
            "leakyrelu" => Self::LeakyRelu,
            "thresholdedrelu" => Self::ThresholdedRelu,
            "scaledtanh" => Self::ScaledTanh,
            "hardsigmoid" => Self::HardSigmoid,
            "elu" => Self::Elu,
            "softsign" => Self::Softsign,
            "softplus" => Self::Softplus,
            _ => return None,
        })
    }

    /// The name in the specification.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Relu => "Relu",
            Self::Tanh => "Tanh",
            Self::Sigmoid => "Sigmoid",
            Self::Affine => "Affine",
            Self::LeakyRelu => "LeakyRelu",
            Self::ThresholdedRelu => "ThresholdedRelu",
            Self::ScaledTanh => "ScaledTanh",
            Self::HardSigmoid => "HardSigmoid",
            Self::Elu => "Elu",
            Self::Softsign => "Softsign",
            Self::Softplus => "Softplus",
        }
    }

    /// Default alpha and beta, each where the function takes it. The specification refers to the operators of
    /// the same names; Affine and ScaledTanh, which are none any more, are the identity scaling.
    fn defaults(self) -> (Option<f32>, Option<f32>) {
        match self {
            Self::Affine => (Some(1.0), Some(0.0)),
            Self::LeakyRelu => (Some(0.01), None),
            Self::ThresholdedRelu | Self::Elu => (Some(1.0), None),
            Self::ScaledTanh => (Some(1.0), Some(1.0)),
            Self::HardSigmoid => (Some(0.2), Some(0.5)),
            Self::Relu | Self::Tanh | Self::Sigmoid | Self::Softsign | Self::Softplus => (None, None),
        }
    }
}

/// An activation function with its parameters; those that it does not take are zero.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Activation {
    pub(crate) function: Function,
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
}

impl Activation {
    /// alpha, where the function takes one.
    pub(crate) fn given_alpha(&self) -> Option<f32> {
        self.function.defaults().0.map(|_| self.alpha)
    }

    /// beta, where the function takes one.
    pub(crate) fn given_beta(&self) -> Option<f32> {
        self.function.defaults().1.map(|_| self.beta)
    }
}

/// One direction of a recurrence.
#[derive(Clone, Debug)]
pub(crate) struct Direction {
    /// From the last step to the first.
    pub(crate) reverse: bool,
    /// f, g, h of LSTM; f, g of GRU; f of RNN.
    pub(crate) activations: Vec<Activation>,
}

/// The attributes of a recurrent operator. As text they are part of signatures, see its [`Debug`](std::fmt::Debug).
#[derive(Clone)]
pub(crate) struct Recurrence {
    pub(crate) cell: Cell,
    /// One or two.
    pub(crate) directions: Vec<Direction>,
    /// `layout = 1`: batch before time.
    pub(crate) batch_first: bool,
    /// Bound on the inputs of activations.
    pub(crate) clip: Option<f32>,
    /// Whether the node has a bias and peepholes.
    pub(crate) has_bias: bool,
    pub(crate) has_peephole: bool,
    pub(crate) hidden_size: Option<usize>,
    /// Of a piece of a longer sequence the blocks of its steps; none of a whole one.
    pub(crate) piece: Vec<Block>,
    /// Shared by those that pack the same constants alike: a whole one and its pieces.
    pub(crate) packing: Arc<()>,
}

/// Steps of a sequence that are multiplied with W together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    pub(crate) steps: usize,
    /// The steps of the block in the whole sequence, which choose the kernel of the product.
    pub(crate) of: usize,
}

/// What the time of a step depends on: the blocks of a piece, by which it chooses kernels, but nothing of them where there
/// are none, and not with whom it shares what it packs.
#[allow(clippy::missing_fields_in_debug, reason = "with whom it packs changes no time")]
impl std::fmt::Debug for Recurrence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cell, directions, batch_first, clip, has_bias, has_peephole, hidden_size, .. } = self;
        let mut of = f.debug_struct("Recurrence");
        of.field("cell", cell).field("directions", directions).field("batch_first", batch_first);
        of.field("clip", clip).field("has_bias", has_bias).field("has_peephole", has_peephole);
        of.field("hidden_size", hidden_size);
        if !self.piece.is_empty() {
            of.field("piece", &self.piece);
        }
        of.finish()
    }
}

impl Recurrence {
    /// Reads the attributes that all three operators have.
    pub(crate) fn parse(spec: &NodeSpec, cell: Cell) -> Result<Self, OpError> {
        let reverse: &[bool] = match spec.string("direction")?.as_deref() {
            None | Some("forward") => &[false],
            Some("reverse") => &[true],
            Some("bidirectional") => &[false, true],
            Some(other) => return Err(OpError::attribute("direction", format!("is `{other}`"))),
        };
        let hidden_size = spec
            .int("hidden_size")?
            .map(|v| usize::try_from(v).map_err(|_| OpError::attribute("hidden_size", format!("is {v}"))))
            .transpose()?;
        let clip = spec.float("clip")?;
        if let Some(clip) = clip.filter(|c| c.is_nan() || *c < 0.0) {
            return Err(OpError::attribute("clip", format!("is {clip}")));
        }
        let batch_first = if spec.opset >= 14 { spec.flag_or("layout", false)? } else { false };
        let mut activations = activations(spec, cell, reverse.len())?.into_iter();
        let per_direction = cell.functions().len();
        let directions = reverse
            .iter()
            .map(|&reverse| Direction {
                reverse,
                activations: activations.by_ref().take(per_direction).collect(),
            })
            .collect();
        let (has_bias, has_peephole) = (spec.has_input(3), spec.has_input(7));
        let (piece, packing) = (Vec::new(), Arc::default());
        Ok(Self { cell, directions, batch_first, clip, has_bias, has_peephole, hidden_size, piece, packing })
    }

    /// Whether there is a cell state beside the hidden one.
    pub(crate) fn has_cell_state(&self) -> bool {
        matches!(self.cell, Cell::Lstm { .. })
    }

    /// Facts of the outputs, and the checks that the kernel relies on.
    pub(crate) fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        let (gates, directions) = (self.cell.gates(), Dim::Known(self.directions.len()));
        inputs.expect_count(3, self.cell.inputs())?;
        let dtype = inputs.typed(0, FLOATS)?.dtype;
        let mut hidden = Axis::new("hidden", self.hidden_size.map_or(Dim::Unknown, Dim::Known));
        let mut batch = Axis::new("batch", Dim::Unknown);
        let mut time = Axis::new("time", Dim::Unknown);
        let mut input = Axis::new("input", Dim::Unknown);
        let divided = |dim: &Dim, by: usize, index: usize| match dim {
            Dim::Known(n) if n % by != 0 => {
                Err(OpError::input(index, format!("has an extent of {n}, which is not a multiple of {by}")))
            }
            dim => Ok(dim.exact_div(&Dim::Known(by)).unwrap_or(Dim::Unknown)),
        };
        // R names the hidden size directly, so it is asked first.
        for index in [2, 0, 1, 3, 4, 5, 6, 7] {
            let rank = match index {
                3 | 7 => 2,
                4 => 1,
                _ => 3,
            };
            let Some(fact) = inputs.optional(index)? else { continue };
            let wanted = if index == 4 { DType::I32 } else { dtype };
            if fact.dtype != wanted {
                return Err(OpError::DType { index, got: fact.dtype });
            }
            let Some(shape) = &fact.shape else { continue };
            if shape.len() != rank {
                return Err(OpError::input(index, format!("has rank {} instead of {rank}", shape.len())));
            }
            let steps_first = usize::from(self.batch_first);
            let directed = |dim: &Dim| Axis::new("direction", directions.clone()).meet(dim, index);
            match index {
                0 => {
                    time.meet(&shape[steps_first], index)?;
                    batch.meet(&shape[1 - steps_first], index)?;
                    input.meet(&shape[2], index)?;
                }
                1 | 2 => {
                    directed(&shape[0])?;
                    let last = if index == 1 { &mut input } else { &mut hidden };
                    last.meet(&shape[2], index)?;
                    hidden.meet(&divided(&shape[1], gates, index)?, index)?;
                }
                3 | 7 => {
                    directed(&shape[0])?;
                    let rows = if index == 3 { 2 * gates } else { 3 };
                    hidden.meet(&divided(&shape[1], rows, index)?, index)?;
                }
                4 => batch.meet(&shape[0], index)?,
                _ => {
                    directed(&shape[steps_first])?;
                    batch.meet(&shape[1 - steps_first], index)?;
                    hidden.meet(&shape[2], index)?;
                }
            }
        }
        let (time, batch, hidden) = (time.dim, batch.dim, hidden.dim);
        let (y, last) = if self.batch_first {
            (vec![batch.clone(), time, directions.clone(), hidden.clone()], vec![batch, directions, hidden])
        } else {
            (vec![time, directions.clone(), batch.clone(), hidden.clone()], vec![directions, batch, hidden])
        };
        let mut outputs: Vec<Fact> =
            vec![TensorFact::new(dtype, y).into(), TensorFact::new(dtype, last.clone()).into()];
        if matches!(self.cell, Cell::Lstm { .. }) {
            outputs.push(TensorFact::new(dtype, last).into());
        }
        Ok(outputs)
    }

    /// Multiply–adds of both products for every direction, step and row, counted as two, and every byte once.
    pub(crate) fn cost(inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let bytes = |f: &Fact| f.tensor().and_then(TensorFact::bytes).unwrap_or(0) as f64;
        let moved = inputs.0.iter().flatten().map(|f| bytes(f)).chain(outputs.iter().map(bytes)).sum();
        let extents = |index: usize| inputs.tensor(index).ok().and_then(TensorFact::known_shape);
        let (Some(x), Some(r)) = (extents(0), extents(2)) else { return Cost { flops: 0.0, bytes: moved } };
        let depth = x.last().zip(r.last()).map_or(0.0, |(i, h)| *i as f64 + *h as f64);
        let steps: f64 = x.iter().take(2).map(|&d| d as f64).product();
        let rows: f64 = r.iter().take(2).map(|&d| d as f64).product();
        Cost { flops: 2.0 * steps * rows * depth, bytes: moved }
    }
}

/// An extent that several inputs have.
struct Axis {
    name: &'static str,
    dim: Dim,
}

impl Axis {
    fn new(name: &'static str, dim: Dim) -> Self {
        Self { name, dim }
    }

    /// Notes that input `index` gives the axis this extent.
    fn meet(&mut self, dim: &Dim, index: usize) -> Result<(), OpError> {
        match (&self.dim, dim) {
            (Dim::Known(a), Dim::Known(b)) if a != b => {
                let name = self.name;
                return Err(OpError::input(index, format!("has a {name} extent of {b} instead of {a}")));
            }
            // A number says more than an expression, and anything more than nothing.
            (Dim::Unknown, _) | (Dim::Expr(_), Dim::Known(_)) => self.dim = dim.clone(),
            _ => {}
        }
        Ok(())
    }
}

/// The activation functions of all directions. Each list of parameters is consumed in order by the functions
/// that take that parameter.
fn activations(spec: &NodeSpec, cell: Cell, directions: usize) -> Result<Vec<Activation>, OpError> {
    let wanted = cell.functions().len() * directions;
    let names = spec.strings("activations")?.unwrap_or_default();
    let mut functions = names
        .iter()
        .map(|n| Function::named(n).ok_or_else(|| OpError::attribute("activations", format!("names `{n}`"))))
        .collect::<Result<Vec<_>, _>>()?;
    if functions.is_empty() {
        functions = cell.functions().repeat(directions);
    }
    // The default that the schema of RNN states has two entries whatever the direction.
    if cell == Cell::Rnn && functions.len() == 2 {
        functions.truncate(wanted);
    }
    if functions.len() != wanted {
        let problem = format!("names {} functions instead of {wanted}", functions.len());
        return Err(OpError::attribute("activations", problem));
    }
    let alphas = spec.floats("activation_alpha")?.unwrap_or_default();
    let betas = spec.floats("activation_beta")?.unwrap_or_default();
    let (mut alpha_at, mut beta_at) = (0, 0);
    let take = |list: &[f32], at: &mut usize, default: Option<f32>| {
        let Some(default) = default else { return 0.0 };
        *at += 1;
        list.get(*at - 1).copied().unwrap_or(default)
    };
    let made: Vec<Activation> = functions
        .into_iter()
        .map(|function| {
            let (alpha, beta) = function.defaults();
            let alpha = take(&alphas, &mut alpha_at, alpha);
            Activation { function, alpha, beta: take(&betas, &mut beta_at, beta) }
        })
        .collect();
    // A list longer than what is consumed was written for another rule, so its entries would go to the wrong
    // functions; where nothing is consumed it has no effect.
    for (name, list, taken) in [("activation_alpha", &alphas, alpha_at), ("activation_beta", &betas, beta_at)]
    {
        if taken > 0 && list.len() > taken {
            let problem = format!("has {} values, of which the activations take {taken}", list.len());
            return Err(OpError::attribute(name, problem));
        }
    }
    Ok(made)
}
