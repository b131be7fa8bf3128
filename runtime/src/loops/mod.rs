//! Loops over time: recovering them from graphs that spell every step.

pub(crate) mod recovery;
