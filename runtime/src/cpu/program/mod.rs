//! Programs of scalar expressions on the processor.
//!
//! A program runs on tiles of some hundred elements that stay in L1: each instruction is one loop over the tile,
//! compiled for the instruction set ([`routines`]). [`compile`] chooses the loops and gives registers their places
//! in scratch memory; registers that are one element for the whole tile (constants, inputs that broadcast) are
//! computed once per tile. Inputs that lie in memory as the loops read them are read in place, and the last
//! instruction of an output writes to it.
//!
//! A map of four-byte elements is a chain where the instruction set has them ([`chained`]): values stay in registers.
//!
//! [`MapKernel`] runs a program over an output space ([`space`]) on the team; pieces depend on shapes alone, and no
//! element on its place in a tile, so results do not depend on threads. [`Epilogue`] runs one over row segments,
//! [`RowKernel`] a program of stages over rows, [`StripKernel`] one over rows whose neighbours in memory are of other rows.

mod chained;
#[cfg(test)]
mod chained_tests;
mod compile;
mod compiled;
mod conversions;
mod epilogue;
mod functions;
mod joined;
mod kept_rows;
mod map_kernel;
mod operator;
mod reductions;
mod routines;
mod row_kernel;
mod row_layout;
mod row_stage;
#[cfg(test)]
mod row_tests;
mod space;
mod strip_kernel;
#[cfg(test)]
mod tests;

#[allow(unused_imports, reason = "the entry of products")]
pub(crate) use compiled::Reach;
#[allow(unused_imports, reason = "the entry of products")]
pub(crate) use epilogue::Epilogue;
pub(crate) use map_kernel::MapKernel;
pub(crate) use operator::operator_kernel;
pub(crate) use row_kernel::RowKernel;
pub(crate) use row_layout::RowLayout;
pub(crate) use space::Layout;
pub(crate) use strip_kernel::{StripKernel, StripLayout, StripSpace};
