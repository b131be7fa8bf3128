//! Where the time of a run goes, node by node.

use crate::graph::Node;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Collects the time that each node of one session takes, over the runs that are given it. Clones collect
/// together.
///
/// # Example
/// ```
/// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
/// use recurve::{RunOptions, Session, Tensor};
/// use recurve::times::NodeTimes;
/// let session = Session::builder().load_bytes(MODEL)?;
/// let times = NodeTimes::new();
/// let question = Tensor::new(&[3, 1], vec![2i64, 10, 2])?;
/// let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?;
/// let options = RunOptions::default().with_node_times(&times);
/// session.run_with([("question", &question), ("h", &state), ("c", &state)], &options)?;
/// assert!(times.nodes().iter().all(|node| node.runs == 1));
/// # Ok::<(), recurve::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct NodeTimes(Arc<Collected>);

#[derive(Debug, Default)]
struct Collected {
    nodes: Mutex<Vec<Option<NodeTime>>>,
    /// Where events are wanted: the moment from which they count, and what happened.
    events: Option<(Instant, Mutex<Vec<RunEvent>>)>,
}

/// What an event of a run took the time of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum RunLane {
    /// Threads.
    Cpu,
    /// The GPU of a plan, for which a worker launched and waited.
    Device,
    /// A copy to the GPU.
    ToDevice,
    /// A copy from the GPU.
    FromDevice,
}

/// What one thread or the GPU did for a while.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RunEvent {
    /// Name of the node.
    pub name: Arc<str>,
    /// Its operator.
    pub op: String,
    /// The worker; `None` where all threads may have shared it.
    pub worker: Option<usize>,
    /// What ran it, while the worker waited.
    pub lane: RunLane,
    /// When it began, from the making of the [`NodeTimes`].
    pub start: Duration,
    /// How long it took.
    pub took: Duration,
}

/// The time of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NodeTime {
    /// Its name.
    pub name: Arc<str>,
    /// Its operator, with its domain where that is not the standard one.
    pub op: String,
    /// How often it ran.
    pub runs: u64,
    /// Time of all runs together. The time of a control-flow operator includes that of its bodies.
    pub total: Duration,
    /// Time of the shortest run.
    pub min: Duration,
}

impl NodeTimes {
    /// Without any run so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Without any run so far; when and where each node runs is kept too, which takes memory with every run.
    pub fn with_events() -> Self {
        Self(Arc::new(Collected { events: Some((Instant::now(), Mutex::default())), ..Collected::default() }))
    }

    /// What ran when, by the order in which it ended; nothing unless made by [`NodeTimes::with_events`].
    pub fn events(&self) -> Vec<RunEvent> {
        let held = self.0.events.as_ref().map(|(_, e)| e.lock().unwrap_or_else(PoisonError::into_inner));
        held.map(|events| events.clone()).unwrap_or_default()
    }

    /// The nodes that ran, in the order in which they stand in the graph. A node whose outputs are views of its
    /// input, or known before the run, does not run.
    pub fn nodes(&self) -> Vec<NodeTime> {
        self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner).iter().flatten().cloned().collect()
    }

    /// Tells that `worker` alone, or all threads, ran `node`, or waited for the GPU that did, from `started` on for the time
    /// `took`.
    pub(crate) fn event(
        &self,
        node: &Node,
        (worker, lane): (Option<usize>, RunLane),
        (started, took): (Instant, Duration),
    ) {
        let op = || node.def.full_name();
        self.push(|start| RunEvent { name: node.name.clone(), op: op(), worker, lane, start, took }, started);
    }

    /// Tells the same of what is no node: its name, and what it does.
    pub(crate) fn named(
        &self,
        (name, op): (String, String),
        (worker, lane): (Option<usize>, RunLane),
        (started, took): (Instant, Duration),
    ) {
        self.push(|start| RunEvent { name: name.into(), op, worker, lane, start, took }, started);
    }

    /// Tells that `worker` made copy `number` of a plan from `started` on for the time `took`.
    pub(crate) fn copy(&self, number: usize, by: (Option<usize>, RunLane), when: (Instant, Duration)) {
        self.named((format!("copy {number}"), "copy".to_owned()), by, when);
    }

    fn push(&self, event: impl FnOnce(Duration) -> RunEvent, started: Instant) {
        if let Some((origin, events)) = &self.0.events {
            let event = event(started.saturating_duration_since(*origin));
            events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        }
    }

    /// Adds one run of `node`, which stands at `index` in its graph.
    pub(crate) fn add(&self, index: usize, node: &Node, took: Duration) {
        let mut nodes = self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.len() <= index {
            nodes.resize(index + 1, None);
        }
        let time = nodes[index].get_or_insert_with(|| NodeTime {
            name: node.name.clone(),
            op: node.def.full_name(),
            runs: 0,
            total: Duration::ZERO,
            min: Duration::MAX,
        });
        time.runs += 1;
        time.total += took;
        time.min = time.min.min(took);
    }
}
