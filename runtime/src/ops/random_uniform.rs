//! # RandomUniform
//! A tensor of `shape`, uniformly distributed between `low` and `high`.
//! Opsets 1, 22.

use super::OpDef;
use super::random::{Uniform, filled};

pub(super) const DEF: OpDef = filled::<Uniform>("RandomUniform");
