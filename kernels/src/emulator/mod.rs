//! The emulator: runs kernels on the host and checks what they do.
