//! For test suites and benchmarks: random valid uses of every operator, the reference execution, and the
//! comparison within an operator's accuracy class.

pub(crate) mod bodies;
mod case;
mod compare;
mod exact_arena;
mod gang_loop;
pub(crate) mod gen_attention;
mod gen_case;
pub(crate) mod gen_recurrence;
#[doc(hidden)]
pub mod gpu;
mod limits;
#[cfg(test)]
mod long_rows;
mod model_reference;
mod nest;
mod on_device;
mod operator;
#[cfg(test)]
mod packing;
mod placement;
mod random_plan;
mod single_node;
#[cfg(test)]
mod stored;

pub use crate::session::ArenaUse;
pub use case::Case;
#[cfg(test)]
pub(crate) use compare::compare_value;
pub use compare::{Mismatch, Tolerance, compare};
pub(crate) use exact_arena::least_arena;
pub use gang_loop::GangLoop;
pub use gen_case::Gen;
pub use limits::Limits;
pub use model_reference::model_reference;
pub use nest::{Link, Nest};
pub use on_device::check_operator_on;
pub(crate) use operator::parse;
pub use operator::{Failure, OperatorInfo, check_operator, operators};
pub use placement::{Placement, placement};
pub use random_plan::{arenas, random_plan};
#[cfg(test)]
pub(crate) use single_node::written;
pub use single_node::{SingleNode, single_node, test_data};
