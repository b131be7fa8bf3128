//! # RandomUniformLike
//! A tensor of the shape of `x`, uniformly distributed between `low` and `high`. In the type of `x` unless `dtype` names another.
//! Opsets 1, 22.

use super::OpDef;
use super::random::{Uniform, like};

pub(super) const DEF: OpDef = like::<Uniform>("RandomUniformLike");
