//! Entries: the functions that can be launched, each with its launch bounds beside it.

/// What the compiler and the driver must know of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaunchBounds {
    /// The most threads of a block (`.maxntid`).
    pub threads: u32,
    /// Blocks that an SM shall hold at a time (`.minnctapersm`); 1 where it does not matter.
    pub blocks_per_sm: u32,
    /// Blocks of a cluster, where it is fixed (`.reqnctapercluster`); 0 where it is given at launch or there is none.
    pub cluster: u32,
    /// The least compute capability, ten times the major number plus the minor one.
    pub capability: u32,
    /// Whether the kernel keeps data in registers: neither a stack frame nor a spill may be left in it.
    pub registers_only: bool,
    /// The most shared memory that a launch asks for.
    pub shared_bytes: u32,
    /// Whether the machine code must hold tensor-core instructions; it must hold none otherwise.
    pub tensor_cores: bool,
}

impl LaunchBounds {
    /// Blocks of at most `threads` threads, on devices of compute capability 7.5 and up.
    pub const fn threads(threads: u32) -> Self {
        Self {
            threads,
            blocks_per_sm: 1,
            cluster: 0,
            capability: 75,
            registers_only: false,
            shared_bytes: 0,
            tensor_cores: false,
        }
    }

    /// On devices of this compute capability and up.
    pub const fn since(self, capability: u32) -> Self {
        Self { capability, ..self }
    }

    /// With so many blocks on an SM at a time.
    pub const fn resident(self, blocks_per_sm: u32) -> Self {
        Self { blocks_per_sm, ..self }
    }

    /// Without stack frame and spills.
    pub const fn registers_only(self) -> Self {
        Self { registers_only: true, ..self }
    }

    /// With up to so much shared memory per block.
    pub const fn shared(self, shared_bytes: u32) -> Self {
        Self { shared_bytes, ..self }
    }

    /// With tensor-core instructions.
    pub const fn tensor_cores(self) -> Self {
        Self { tensor_cores: true, ..self }
    }

    /// In clusters of so many blocks.
    pub const fn cluster(self, blocks: u32) -> Self {
        Self { cluster: blocks, ..self }
    }
}

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

/// An entry without the type of its parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryInfo {
    /// The symbol in the module.
    pub name: &'static str,
    /// Bytes of the one parameter.
    pub params_size: usize,
    /// Its alignment.
    pub params_align: usize,
    /// Launch bounds.
    pub bounds: LaunchBounds,
}

/// A kernel that takes a `P`.
#[derive(Debug)]
pub struct Entry<P: 'static> {
    /// Name, layout of the parameters, launch bounds.
    pub info: EntryInfo,
    /// What every thread runs.
    pub body: fn(P),
}

impl<P: Copy + Send + Sync + 'static> Entry<P> {
    /// The entry of this name; [`entry!`](crate::entry) makes the symbol of the same name.
    pub const fn new(name: &'static str, bounds: LaunchBounds, body: fn(P)) -> Self {
        let info = EntryInfo { name, params_size: size_of::<P>(), params_align: align_of::<P>(), bounds };
        Self { info, body }
    }
}

/// Declares an entry: a `static` [`Entry`] for the host and, for the device, the symbol that the driver launches.
///
/// `entry!(GEMV_F32 = gemv_f32: Params, LaunchBounds::threads(256), gemv::<f32>);`
#[macro_export]
macro_rules! entry {
    ($(#[$meta:meta])* $constant:ident = $symbol:ident: $params:ty, $bounds:expr, $body:expr) => {
        $(#[$meta])*
        pub static $constant: $crate::launch::Entry<$params> =
            $crate::launch::Entry::new(stringify!($symbol), $bounds, $body);

        /// The shell of the entry.
        ///
        /// # Safety
        ///
        /// - The parameters are those of a launch that was checked against the kernel's contract.
        #[cfg(target_arch = "nvptx64")]
        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $symbol(params: $params) {
            // A module for a lesser capability has no such entry; its instructions would not assemble there.
            if const { $bounds.capability <= $crate::launch::COMPILED_CAPABILITY } {
                ($body)(params);
            }
        }
    };
}
