//! Measurements on a GPU, by its own events: what the machine costs, and what the kernel families reach. On the emulated
//! GPU they run with tiny sizes, so that the code is exercised; the times are then the emulator's.

mod bench;
mod constants;
mod convolutions;
mod copies;
mod maps;
mod products;
mod recurrent;
mod rows;

pub use bench::{Bench, Fault, Measure, Record};

/// Everything that the section `constants` measures.
pub fn constants(bench: &mut Bench) -> Result<(), Fault> {
    bench.attempt("launches", constants::launches)?;
    bench.attempt("events", constants::events)?;
    bench.attempt("host flag", constants::host_flag)?;
    bench.attempt("copies to and from the host", copies::host)?;
    bench.attempt("bandwidth", copies::device)?;
    bench.attempt("grid barrier", constants::grid_barrier)?;
    bench.attempt("flag through L2", constants::flag)?;
    bench.attempt("cluster", constants::cluster)
}

/// Everything that the section `benches` measures.
pub fn benches(bench: &mut Bench) -> Result<(), Fault> {
    bench.attempt("copy", copies::reference)?;
    bench.attempt("gemv", products::gemv)?;
    bench.attempt("gemm", products::gemm)?;
    bench.attempt("map", maps::maps)?;
    bench.attempt("softmax", rows::softmax)?;
    bench.attempt("reduce", rows::reduce)?;
    bench.attempt("lstm", recurrent::lstm)?;
    bench.attempt("conv", convolutions::conv)
}
