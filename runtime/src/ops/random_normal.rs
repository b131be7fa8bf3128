//! # RandomNormal
//! A tensor of `shape`, normally distributed with `mean` and standard deviation `scale`.
//! Opsets 1, 22.

use super::OpDef;
use super::random::{Normal, filled};

pub(super) const DEF: OpDef = filled::<Normal>("RandomNormal");
