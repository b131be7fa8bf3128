//! Entries: the functions that can be launched.

use crate::kernel::Kernel;

/// The compute capability that the device code is compiled for.
#[cfg(target_arch = "nvptx64")]
pub const COMPILED_CAPABILITY: u32 = if cfg!(target_feature = "sm_100") {
    100
} else if cfg!(target_feature = "sm_90") {
    90
} else if cfg!(target_feature = "sm_80") {
    80
} else {
    75
};

/// A kernel that takes a `P`.
#[derive(Debug)]
pub struct Entry<P: 'static> {
    /// What it is compiled and launched with.
    pub kernel: Kernel,
    /// What every thread runs.
    pub body: fn(P),
}

/// Declares an entry: a `static` [`Entry`] for the host and, for the device, the symbol that the driver launches. Behind
/// the most threads of a block come what else the [`Kernel`] is declared with.
///
/// `entry!(GEMV_F32 = gemv_f32(Params): run::<f32>, 256, with_shared(4096), with_min_blocks(4));`
#[macro_export]
macro_rules! entry {
    ($(#[$meta:meta])* $constant:ident = $symbol:ident($params:ty): $body:expr, $threads:expr
     $(, $with:ident($($value:expr)?))* $(,)?) => {
        $(#[$meta])*
        pub static $constant: $crate::launch::Entry<$params> = $crate::launch::Entry {
            kernel: $crate::kernel::Kernel::new::<$params>(stringify!($symbol), $threads)$(.$with($($value)?))*,
            body: $body,
        };

        /// The shell of the entry.
        ///
        /// # Safety
        ///
        /// - The parameters are those of a launch that was checked against the kernel's contract.
        #[cfg(target_arch = "nvptx64")]
        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $symbol(params: $params) {
            // A module for a lesser capability has no such entry; its instructions would not assemble there.
            if const { $constant.kernel.capability <= $crate::launch::COMPILED_CAPABILITY } {
                ($body)(params);
            }
        }
    };
}
