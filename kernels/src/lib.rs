//! GPU kernels of Recurve.
//!
//! This room is empty: the device library, the kernel families and the emulator are not written yet.
#![no_std]
#![deny(missing_docs)]
