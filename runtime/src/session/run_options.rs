//! Options of one run.

use crate::exec::{CancelToken, Interrupt, NodeTimes};
use std::time::{Duration, Instant};

/// Options of one run.
///
/// # Example
/// ```
/// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
/// use recurve::{CancelToken, ErrorKind, RunOptions, Session, Tensor};
/// use std::time::Duration;
/// let session = Session::builder().load_bytes(MODEL)?;
/// let question = Tensor::new(&[3, 1], vec![2i64, 10, 2])?;
/// let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?;
/// let token = CancelToken::new();
/// let options = RunOptions::default().with_timeout(Duration::from_secs(5)).with_cancel(&token);
/// token.cancel(); // from any thread
/// let ended = session.run_with([("question", &question), ("h", &state), ("c", &state)], &options);
/// assert_eq!(ended.err().map(|error| error.kind()), Some(ErrorKind::Cancelled));
/// # Ok::<(), recurve::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    cancel: Option<CancelToken>,
    times: Option<NodeTimes>,
}

impl RunOptions {
    /// The run ends with [`crate::ErrorKind::Deadline`] once it has taken this long.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The run ends with [`crate::ErrorKind::Deadline`] at this time.
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The run ends with [`crate::ErrorKind::Cancelled`] once `token` is cancelled.
    pub fn with_cancel(mut self, token: &CancelToken) -> Self {
        self.cancel = Some(token.clone());
        self
    }

    /// The time of each node is added to `times`.
    pub fn with_node_times(mut self, times: &NodeTimes) -> Self {
        self.times = Some(times.clone());
        self
    }

    pub(super) fn times(&self) -> Option<&NodeTimes> {
        self.times.as_ref()
    }

    pub(super) fn interrupt(&self) -> Interrupt {
        let from_timeout = self.timeout.and_then(|t| Instant::now().checked_add(t));
        let deadline = match (self.deadline, from_timeout) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Interrupt { deadline, cancel: self.cancel.clone() }
    }
}
