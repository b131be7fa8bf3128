//! What the groups share: a model is loaded, its answers are held against the references of its operators once, and its
//! work, as the operators' costs tell it, is the throughput: operations as elements.
//!
//! With `--test`, as CI runs them, each case runs once, on two threads, in the form that is checked.
#![allow(dead_code, reason = "no group uses all of it")]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Throughput};
use recurve::model::Fact;
use recurve::testing::{Tolerance, check_operator, compare, model_reference, single_node};
use recurve::{Error, Session, Tensor, Value};
use std::hint::black_box;

/// What sums in f32 may be off by.
const TOLERANCE: Tolerance = Tolerance { relative: 1e-3, absolute: 1e-4 };

/// Whether everything runs once and nothing is timed.
pub(crate) fn quick() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// The numbers of threads that a group is measured on.
pub(crate) fn thread_counts() -> &'static [usize] {
    if quick() { &[2] } else { &[1, 2] }
}

/// A layer or model under a name.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) model: Vec<u8>,
    /// The same with less of what repeats, steps or rows of an image, which is checked: references are slow.
    pub(crate) checked: Vec<u8>,
}

impl Case {
    /// One that is checked as it is.
    pub(crate) fn whole(name: impl Into<String>, model: Vec<u8>) -> Self {
        Self { name: name.into(), checked: model.clone(), model }
    }
}

/// A session and inputs for it.
struct Loaded {
    session: Session,
    inputs: Vec<(String, Value)>,
}

impl Loaded {
    /// With inputs of the shapes that the model declares, as `input` makes them of name and shape.
    fn with(name: &str, model: &[u8], threads: usize, input: &Input<'_>) -> Self {
        let session = load(name, model, threads);
        let inputs = session.inputs().iter().map(|spec| {
            let Fact::Tensor(fact) = &spec.fact else { panic!("{name}: `{}` is no tensor", spec.name) };
            let extents = fact.shape.iter().flatten().map(|dim| dim.known().unwrap_or(1));
            let tensor = input(&spec.name, &extents.collect::<Vec<_>>());
            (spec.name.to_string(), Value::Tensor(tensor.unwrap_or_else(|e| panic!("{name}: {e}"))))
        });
        Self { inputs: inputs.collect(), session }
    }

    fn run(&self, name: &str) -> recurve::Outputs {
        let given = self.inputs.iter().map(|(input, value)| (input.as_str(), value));
        self.session.run(given).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Operations and bytes of a run, where all operators tell theirs.
    fn work(&self) -> Option<(f64, f64)> {
        let shapes = self.inputs.iter().filter_map(|(name, value)| {
            let shape = value.as_tensor()?.shape().to_vec();
            Some((name.as_str(), shape))
        });
        let nodes = self.session.nodes(shapes).ok()?;
        nodes.iter().try_fold((0.0, 0.0), |(flops, bytes), node| {
            let cost = node.cost?;
            Some((flops + cost.flops, bytes + cost.bytes))
        })
    }

    fn throughput(&self) -> Option<Throughput> {
        let (flops, bytes) = self.work()?;
        let of = Throughput::ElementsAndBytes { elements: flops as u64, bytes: bytes as u64 };
        (flops >= 1.0).then_some(of)
    }

    /// Panics where an answer is not that of the references.
    fn check(&self, name: &str, model: &[u8]) {
        let tensors: Vec<(&str, &Tensor)> =
            self.inputs.iter().filter_map(|(name, v)| Some((name.as_str(), v.as_tensor()?))).collect();
        let want = model_reference(model.to_vec(), &tensors).unwrap_or_else(|e| panic!("{name}: {e}"));
        let outputs = self.run(name);
        for (output, want) in &want {
            let got = outputs.get(output).unwrap_or_else(|| panic!("{name}: there is no output `{output}`"));
            compare(got, want, TOLERANCE).unwrap_or_else(|e| panic!("{name}, output `{output}`: {e}"));
        }
    }
}

fn load(name: &str, model: &[u8], threads: usize) -> Session {
    let session = Session::builder().with_threads(threads).load_bytes(model.to_vec());
    session.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Makes an input of its name and shape.
type Input<'a> = dyn Fn(&str, &[usize]) -> Result<Tensor, Error> + 'a;

/// Checks and times a case on each number of threads, on inputs in [−0.5, 0.5).
pub(crate) fn measure(group: &mut BenchmarkGroup<'_, WallTime>, case: &Case) {
    measure_with(group, case, &|_, shape| {
        let values = (0..shape.iter().product()).map(|i: usize| (i * 7 % 17) as f32 / 17.0 - 0.5);
        Tensor::new(shape, values.collect())
    });
}

/// The same on inputs that `input` makes.
pub(crate) fn measure_with(group: &mut BenchmarkGroup<'_, WallTime>, case: &Case, input: &Input<'_>) {
    let Case { name, model, checked } = case;
    for (index, &threads) in thread_counts().iter().enumerate() {
        let loaded = Loaded::with(name, if quick() { checked } else { model }, threads, input);
        if index == 0 {
            Loaded::with(name, checked, threads, input).check(name, checked);
        }
        if let Some(throughput) = loaded.throughput() {
            group.throughput(throughput);
        }
        group.bench_function(format!("{name}/{threads}"), |b| b.iter(|| black_box(loaded.run(name))));
    }
}

/// Checks and times the uses of an operator that its row of the table draws from these seeds.
pub(crate) fn of_the_table(group: &mut BenchmarkGroup<'_, WallTime>, operator: &str, seeds: &[u64]) {
    for &seed in seeds {
        let name = format!("{operator}/case {seed}");
        let node = single_node(operator, seed).unwrap_or_else(|error| panic!("{name}: {error}"));
        for &threads in thread_counts() {
            check_operator(operator, seed, threads).unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
            let session = load(&name, &node.model, threads);
            let loaded = Loaded { session, inputs: node.inputs.clone() };
            if let Some(throughput) = loaded.throughput() {
                group.throughput(throughput);
            }
            group.bench_function(format!("{name}/{threads}"), |b| b.iter(|| black_box(loaded.run(&name))));
        }
    }
}
