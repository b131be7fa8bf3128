//! Families of elementwise operators. An operator of a family is a few scalar functions: one for kernels,
//! generic over the element type, and the formula of the specification for the reference. Inference, the
//! kernel's loops, the reference's loops and the drawing of cases are the family's.

mod arithmetic;
mod comparison;
mod draw;
mod float_map;
mod float_test;
mod fold;
mod logic;
mod map;
mod number_map;
mod shape_values;
mod zip;

pub(super) use arithmetic::{Arithmetic, arithmetic};
pub(super) use comparison::{Comparison, comparison};
pub(super) use draw::{draw_numbers, draw_pair, draw_shape};
pub(super) use float_map::{FloatMap, float_map};
pub(super) use float_test::{FloatTest, float_test};
pub(super) use fold::{Fold, fold};
pub(super) use logic::{Bitwise, Logic, bitwise, logic};
pub(super) use map::{Map, map, same_shape};
pub(super) use number_map::{NumberMap, number_map};
pub(super) use shape_values::{Entry, broadcast_at, entries, with_entries};
pub(super) use zip::{Zip, broadcast_fact, zip};
