//! GPU kernels of Recurve: one source, compiled to PTX for the device and to host code for the emulator.
#![no_std]
#![deny(missing_docs)]

pub mod kernel;
