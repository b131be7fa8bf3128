//! Entries: the functions that can be launched.

use crate::kernel::Kernel;

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
            ($body)(params);
        }
    };
}
