//! What is measured on a GPU runs on the emulated one, with sizes of its own.

use recurve::Device;
use recurve::testing::gpu::TestGpu;
use recurve_benches::gpu::{Bench, Fault, benches, constants};

fn measured(section: fn(&mut Bench) -> Result<(), Fault>) -> Bench {
    let gpu = TestGpu::open(Device::Emulated, None).expect("always there");
    let mut bench = Bench::new(gpu, |_| {}, |_| {});
    section(&mut bench).expect("the emulator is not lost");
    assert!(bench.failures.is_empty(), "{:?}", bench.failures);
    for measure in &bench.measures {
        assert!(measure.value.is_finite(), "{measure:?}");
    }
    bench
}

#[test]
fn constants_are_measured() {
    let bench = measured(constants);
    for name in ["kernel in a graph", "flag between host and device, there and back", "barrier of 4 blocks"] {
        assert!(bench.measures.iter().any(|measure| measure.name == name), "{name}: {:?}", bench.measures);
    }
    let hop = bench.measures.iter().find(|measure| measure.name.starts_with("st.async"));
    assert!(hop.is_some(), "{:?}", bench.measures);
}

#[test]
fn kernels_are_measured_beside_a_copy() {
    let bench = measured(benches);
    for name in ["gemv", "gemm f16", "map |x|", "softmax", "sum", "lstm step", "lstm sequence", "conv F16"] {
        let found = bench.measures.iter().find(|measure| measure.name.starts_with(name));
        let found = found.unwrap_or_else(|| panic!("{name}: {:?}", bench.measures));
        let bandwidth = found.unit == "GB/s";
        assert_eq!(found.of_copy.is_some(), bandwidth, "{found:?}");
    }
}

/// A measurement that fails is noted, and the others go on.
#[test]
fn a_failure_is_noted() {
    let gpu = TestGpu::open(Device::Emulated, None).expect("always there");
    let mut bench = Bench::new(gpu, |_| {}, |_| {});
    bench.attempt("wrong", |_| Err(Fault::Wrong("no".into()))).expect("goes on");
    bench
        .attempt("right", |bench| {
            bench.note("x", 1.0, "us");
            Ok(())
        })
        .expect("goes on");
    assert_eq!(bench.failures, ["wrong: no"]);
    assert_eq!(bench.measures.len(), 1);
}
