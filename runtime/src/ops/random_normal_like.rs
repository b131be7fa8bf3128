//! # RandomNormalLike
//! A tensor of the shape of `x`, normally distributed with `mean` and standard deviation `scale`. In the type of `x` unless `dtype` names another.
//! Opsets 1, 22.

use super::OpDef;
use super::random::{Normal, like};

pub(super) const DEF: OpDef = like::<Normal>("RandomNormalLike");
