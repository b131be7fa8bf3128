//! Random plans of a session's model, and how near plans come to the least memory.

use crate::error::Error;
use crate::plan::Plan;
use crate::session::{ArenaUse, Session};

/// A plan for inputs of these shapes that is valid and not good: steps in a random order that their needs allow, each on a
/// random thread of the engine or on all. Following it must not change a result.
pub fn random_plan<'a, S: AsRef<[usize]>>(
    session: &Session,
    shapes: impl IntoIterator<Item = (&'a str, S)>,
    seed: u64,
) -> Result<Plan, Error> {
    session.random_plan(shapes, seed)
}

/// The arenas of a plan of the session's model in the host's memory and in that of the GPU that it uses.
pub fn arenas(session: &Session, plan: &Plan) -> Result<[ArenaUse; 2], Error> {
    session.arenas(plan)
}
