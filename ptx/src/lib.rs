//! The PTX modules of Recurve.
//!
//! This room is empty: no module has been built yet.
#![no_std]
#![deny(missing_docs)]
