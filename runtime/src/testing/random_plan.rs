//! Random plans of a session's model.

use crate::error::Error;
use crate::plan::Plan;
use crate::session::Session;

/// A plan for inputs of these shapes that is valid and not good: steps in a random order that their needs allow, each on a
/// random thread of the engine or on all. Following it must not change a result.
pub fn random_plan<'a, S: AsRef<[usize]>>(
    session: &Session,
    shapes: impl IntoIterator<Item = (&'a str, S)>,
    seed: u64,
) -> Result<Plan, Error> {
    session.random_plan(shapes, seed)
}
