//! How the time of an LSTM grows with its units, steps and rows on one thread and on more, beside its floor: measured
//! into a table of comma-separated values, drawn from there.

mod draw;
mod table;

pub use draw::{draw_all, drawing};
pub use table::{Axis, Growth, GrowthError, Point};
