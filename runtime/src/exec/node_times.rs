//! Where the time of a run goes, node by node.

use crate::graph::Node;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Collects the time that each node of one session takes, over the runs that are given it. Clones collect
/// together.
///
/// # Example
/// ```no_run
/// use recurve::{NodeTimes, RunOptions, Session, Tensor};
/// let session = Session::builder().load("model.onnx")?;
/// let times = NodeTimes::new();
/// let x = Tensor::new(&[1, 4], vec![0.1f32; 4])?;
/// session.run_with([("x", &x)], &RunOptions::default().with_node_times(&times))?;
/// for node in times.nodes() {
///     println!("{} ({}): {:?}", node.name, node.op, node.total);
/// }
/// # Ok::<(), recurve::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct NodeTimes(Arc<Mutex<Vec<Option<NodeTime>>>>);

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

    /// The nodes that ran, in the order in which they stand in the graph. A node whose outputs are views of its
    /// input, or known before the run, does not run.
    pub fn nodes(&self) -> Vec<NodeTime> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().flatten().cloned().collect()
    }

    /// Adds one run of `node`, which stands at `index` in its graph.
    pub(crate) fn add(&self, index: usize, node: &Node, took: Duration) {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
