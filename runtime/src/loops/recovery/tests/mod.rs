//! Cells that are written out become operators again, however they are spelled, and stay right.

mod cells;
mod hoisting;
mod layers;
mod lies;
mod looped;
mod near_cells;
mod near_misses;
mod net;
mod others;
mod quantised;
mod spelling;
mod step;
mod unrolled;
