//! The ONNX backend suite: its index, the judgement of one case, the committed list of refused cases, and the
//! report.

mod case;
mod judge;
mod random;
mod refused;
mod report;
mod table;
mod tolerance;

pub use case::{Case, Index};
pub use judge::{Judge, Outcome, Verdict, remember_panics};
pub use refused::{Change, RefusedList};
pub use report::{Counts, Report};
pub use table::operator_table;
pub use tolerance::Closeness;
