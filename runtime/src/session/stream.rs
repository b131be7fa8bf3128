//! Streams: a model whose state outputs are fed back to its state inputs, call after call.

use super::{Outputs, RunOptions, Session, arguments};
use crate::dtype::DType;
use crate::error::Error;
use crate::graph::{Dim, Fact, merge};
use crate::memory::{Budget, Buffer};
use crate::tensor::{Tensor, Value, ValueRef};

/// A session with recurrent state. The state starts as zeros and is replaced by the state outputs of each call.
///
/// # Example
/// ```
/// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
/// use recurve::{Session, Tensor};
/// let session = Session::builder().load_bytes(MODEL)?; // inputs question, h, c; outputs answer, h_out, c_out
/// let mut stream = session.stream()?;
/// let mut answer = Vec::new();
/// for token in [2i64, 10, 2] {
///     let character = Tensor::new(&[1, 1], vec![token])?;
///     answer = stream.run([("question", &character)])?.tensor("answer")?.to_vec::<i64>().unwrap_or_default();
/// }
/// assert_eq!(answer, [4, 11, 11, 11, 11]);
/// # Ok::<(), recurve::Error>(())
/// ```
#[derive(Debug)]
pub struct Stream<'s> {
    session: &'s Session,
    states: Vec<State>,
}

#[derive(Debug)]
struct State {
    output: usize,
    input: usize,
    value: Option<Value>,
}

impl<'s> Stream<'s> {
    pub(super) fn new(session: &'s Session, pairs: &[(&str, &str)]) -> Result<Self, Error> {
        let mut states: Vec<State> = Vec::with_capacity(pairs.len());
        for (output, input) in pairs {
            let find = |role, name: &str, specs: &[arguments::ValueSpec]| {
                specs
                    .iter()
                    .position(|s| &*s.name == name)
                    .ok_or_else(|| arguments::unknown(role, name, specs))
            };
            let o = find("output", output, &session.outputs)?;
            let i = find("input", input, &session.inputs)?;
            if states.iter().any(|s| s.output == o || s.input == i) {
                return Err(arguments::refuse("input", input, "is in two state pairs, or its output is"));
            }
            if !can_feed(&session.outputs[o].fact, &session.inputs[i].fact) {
                let problem = format!("cannot take the state output `{output}`: dtype or shape differ");
                return Err(arguments::refuse("input", input, problem));
            }
            states.push(State { output: o, input: i, value: None });
        }
        Ok(Self { session, states })
    }

    pub(super) fn by_name(session: &'s Session) -> Result<Self, Error> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for input in &session.inputs {
            let output = session.outputs.iter().find(|o| {
                feeds_by_name(&o.name, &input.name)
                    && can_feed(&o.fact, &input.fact)
                    && !pairs.iter().any(|(used, _)| *used == &*o.name)
            });
            if let Some(output) = output {
                pairs.push((&output.name, &input.name));
            }
        }
        if pairs.is_empty() {
            let problem = "has no state: no output's name says that it feeds an input; name the pairs";
            return Err(arguments::refuse("output", "stream", problem));
        }
        Self::new(session, &pairs)
    }

    /// The state pairs as (output, input).
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.states
            .iter()
            .map(|s| (&*self.session.outputs[s.output].name, &*self.session.inputs[s.input].name))
    }

    /// Runs one call: the inputs that are not state are given, the outputs that are not state come back.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{Session, Tensor};
    /// let session = Session::builder().load_bytes(MODEL)?;
    /// let mut stream = session.stream()?;
    /// let outputs = stream.run([("question", &Tensor::new(&[3, 1], vec![2i64, 10, 2])?)])?;
    /// // The state is kept, and is no output of the call.
    /// assert_eq!(outputs.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["answer"]);
    /// assert!(stream.state("h").is_some());
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn run<'a, V: Into<ValueRef<'a>>>(
        &mut self,
        inputs: impl IntoIterator<Item = (&'a str, V)>,
    ) -> Result<Outputs, Error> {
        self.run_with(inputs, &RunOptions::default())
    }

    /// [`Stream::run`] with a deadline or a cancel token. After an error the state is that of the last call that
    /// succeeded.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{RunOptions, Session, Tensor};
    /// use std::time::Duration;
    /// let session = Session::builder().load_bytes(MODEL)?;
    /// let mut stream = session.stream()?;
    /// let question = Tensor::new(&[3, 1], vec![2i64, 10, 2])?;
    /// let late = stream.run_with([("question", &question)], &RunOptions::default().with_timeout(Duration::ZERO));
    /// assert!(late.is_err() && stream.state("h").is_none(), "no call has succeeded yet");
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn run_with<'a, V: Into<ValueRef<'a>>>(
        &mut self,
        inputs: impl IntoIterator<Item = (&'a str, V)>,
        options: &RunOptions,
    ) -> Result<Outputs, Error> {
        let given: Vec<(&str, ValueRef<'_>)> = inputs.into_iter().map(|(n, v)| (n, v.into())).collect();
        let mut states = Vec::with_capacity(self.states.len());
        for state in &self.states {
            states.push(match &state.value {
                Some(value) => value.clone(),
                None => self.zeros(state.input, &given)?,
            });
        }
        let fed = self.states.iter().zip(&states);
        let fed = fed.map(|(s, v)| (&*self.session.inputs[s.input].name, v.as_ref()));
        let mut outputs = self.session.run_with(given.iter().copied().chain(fed), options)?;
        for state in &mut self.states {
            state.value = outputs.take(&self.session.outputs[state.output].name);
        }
        Ok(outputs)
    }

    /// The state that the next call will see in input `name`; `None` before the first call.
    pub fn state(&self, name: &str) -> Option<&Value> {
        self.states.iter().find(|s| &*self.session.inputs[s.input].name == name)?.value.as_ref()
    }

    /// Replaces the state of input `name`, if the value is of the kind, dtype and shape that the model declares;
    /// otherwise it stays as it was. What symbols of the shape stand for is checked with all inputs by the next call.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{ErrorKind, Session, Tensor};
    /// let session = Session::builder().load_bytes(MODEL)?;
    /// let mut stream = session.stream()?;
    /// stream.set_state("h", Tensor::new(&[1, 1, 128], vec![0.5f32; 128])?)?;
    /// let narrow = Tensor::new(&[1, 1, 64], vec![0.5f32; 64])?;
    /// let error = stream.set_state("h", narrow).expect_err("the model's state has 128 elements");
    /// assert_eq!(error.kind(), ErrorKind::InvalidInput);
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn set_state(&mut self, name: &str, value: impl Into<Value>) -> Result<(), Error> {
        let session = self.session;
        let named = |s: &State| &*session.inputs[s.input].name == name;
        let Some(at) = self.states.iter().position(named) else {
            let names: Vec<&str> = self.pairs().map(|(_, input)| input).collect();
            let problem = format!("is no state of this stream; it has {}", names.join(", "));
            return Err(arguments::refuse("input", name, problem));
        };
        let value = value.into();
        let spec = &session.inputs[self.states[at].input];
        if let Some(problem) = arguments::problem_of(spec, value.as_ref(), &mut arguments::Symbols::new()) {
            return Err(arguments::refuse("input", name, problem));
        }
        self.states[at].value = Some(value);
        Ok(())
    }

    /// Back to zeros.
    pub fn reset(&mut self) {
        for state in &mut self.states {
            state.value = None;
        }
    }

    /// A zero state whose symbolic extents are those that the other inputs give the symbols.
    fn zeros(&self, input: usize, given: &[(&str, ValueRef<'_>)]) -> Result<Value, Error> {
        let spec = &self.session.inputs[input];
        let refuse = |problem: String| arguments::refuse("input", &spec.name, problem);
        let Fact::Tensor(fact) = &spec.fact else {
            return Err(refuse("is no tensor; set its first state".into()));
        };
        let bound = |symbol: &str| {
            self.session.inputs.iter().find_map(|s| {
                let at =
                    s.fact.tensor()?.shape.as_ref()?.iter().position(|d| d.as_symbol() == Some(symbol))?;
                given.iter().find(|(n, _)| *n == &*s.name)?.1.tensor()?.shape().get(at).copied()
            })
        };
        let shape: Option<Vec<usize>> = fact.shape.as_ref().and_then(|dims| {
            dims.iter()
                .map(|d| match d {
                    Dim::Known(n) => Some(*n),
                    d => d.as_symbol().and_then(bound),
                })
                .collect()
        });
        let Some(shape) = shape else {
            return Err(refuse(format!(
                "has shape {:?}, of which not all is known; set its first state",
                fact.shape
            )));
        };
        let budget: &Budget = &self.session.budget;
        let bytes = crate::tensor::element_count(&shape).and_then(|n| fact.dtype.bytes(n));
        let memory = |_| Error::Memory {
            what: format!("the state `{}`", spec.name),
            requested: bytes.unwrap_or(usize::MAX),
            limit: budget.limit(),
        };
        if fact.dtype == DType::String {
            return Err(refuse("is text; set its first state".into()));
        }
        let buffer = Buffer::zeroed(bytes.unwrap_or(usize::MAX), budget).map_err(memory)?;
        Ok(Tensor::from_buffer(fact.dtype, &shape, buffer).map_err(memory)?.into())
    }
}

fn can_feed(output: &Fact, input: &Fact) -> bool {
    let Some(_) = merge(output, input) else { return false };
    match (output.tensor().and_then(|t| t.shape.as_ref()), input.tensor().and_then(|t| t.shape.as_ref())) {
        (Some(a), Some(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|(x, y)| match (x.known(), y.known()) {
                    (Some(x), Some(y)) => x == y,
                    _ => true,
                })
        }
        _ => true,
    }
}

fn feeds_by_name(output: &str, input: &str) -> bool {
    let suffixed = ["_out", "N", "_n", "n", "_next", "_new", "_output", ".out"];
    let prefixed = ["new_", "next_", "out_", "output_"];
    suffixed.iter().any(|s| output.strip_suffix(s) == Some(input))
        || prefixed.iter().any(|p| output.strip_prefix(p) == Some(input))
        || [
            ("_in", "_out"),
            ("_input", "_output"),
            (".in", ".out"),
            ("0", "n"),
            ("_0", "_n"),
            ("_prev", "_next"),
        ]
        .iter()
        .any(|(i, o)| input.strip_suffix(i).is_some_and(|base| output.strip_suffix(o) == Some(base)))
        || [
            ("in_", "out_"),
            ("prev_", "next_"),
            ("past_", "present_"),
            ("init_", "final_"),
            ("initial_", "final_"),
        ]
        .iter()
        .any(|(i, o)| input.strip_prefix(i).is_some_and(|base| output.strip_prefix(o) == Some(base)))
}
