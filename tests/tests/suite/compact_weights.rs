//! Recurrences of a single row whose weights are read in fewer bits: the same results as with weights as they are, which a
//! batch that is not known beforehand keeps.

use super::precision::{drawn, load};
use recurve::Tensor;
use recurve::settings::Precision;
use recurve_tests::wire::{Extent, code, floats, graph, model, node, untyped, value};

const STEPS: usize = 3;
const INPUT: usize = 5;

/// One layer of `hidden` units, two directions, whose batch is `batch`.
fn layer(op: &str, (gates, hidden): (usize, usize), reset: i64, batch: Extent<'_>) -> Vec<u8> {
    let h = hidden as i64;
    let small = |count: usize, seed| drawn(count, seed).into_iter().map(|w| w * 0.05).collect::<Vec<_>>();
    let mut r = small(2 * gates * hidden * hidden, 2);
    // What few bits cannot tell, in places that all threads have.
    for (at, odd) in [(0, 0.0), (17, -0.0), (gates * hidden * hidden - 1, 1e-41), (hidden * hidden / 2, 3e5)]
    {
        r[at] = odd;
        r[gates * hidden * hidden + at] = odd;
    }
    let shapes = [[2, gates as i64 * h, INPUT as i64], [2, gates as i64 * h, h]];
    let constants =
        [floats("w", &shapes[0], &small(2 * gates * hidden * INPUT, 1)), floats("r", &shapes[1], &r)];
    let layer = node(op, &["x", "w", "r", "", "", "h0"], &["y"]).with_int("hidden_size", h);
    let layer = if op == "GRU" { layer.with_int("linear_before_reset", reset) } else { layer };
    let inputs = [
        value("x", code::F32, &[Extent::N(STEPS as i64), batch, Extent::N(INPUT as i64)]),
        value("h0", code::F32, &[Extent::N(2), batch, Extent::N(h)]),
    ];
    let layer = layer.with_text("direction", "bidirectional");
    model(&graph(&inputs, &[untyped("y")], &[layer], &constants)).into_bytes()
}

/// Bytes of a direction's matrix from which on threads read it in fewer bits, where the processor can: what a last cache of
/// a few cores gives, which processors of AMD have, is read faster as it is.
fn least(threads: usize) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512vbmi") {
        let of_amd = std::arch::x86_64::__cpuid(0).ecx == u32::from_le_bytes(*b"cAMD");
        return if of_amd { Some(last_cache()? / 2 * 3) } else { Some(threads * (5 << 20)) };
    }
    None
}

/// Bytes of the last cache, as the kernel tells.
#[cfg(target_arch = "x86_64")]
fn last_cache() -> Option<usize> {
    let told = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cache/index3/size").ok()?;
    Some(told.trim().strip_suffix('K')?.parse::<usize>().ok()? << 10)
}

/// Units of an RNN whose matrix of states is a tenth larger than the least that one thread reads in fewer bits.
fn units() -> usize {
    let weights = least(1).unwrap_or(5 << 20) / 40 * 11;
    weights.isqrt().next_multiple_of(16)
}

#[test]
fn few_bits_give_what_all_bits_give() {
    // 5.7 MB of R for each direction and more, which some processors read so, and what this one does.
    for (op, gates, hidden, reset) in
        [("LSTM", 4, 600, 0), ("GRU", 3, 704, 0), ("GRU", 3, 704, 1), ("RNN", 1, units(), 0)]
    {
        let (known, symbol) = (Extent::N(1), Extent::Name("batch"));
        let [few, all] = [known, symbol].map(|of| layer(op, (gates, hidden), reset, of));
        let x = Tensor::new(&[STEPS, 1, INPUT], drawn(STEPS * INPUT, 3)).expect("a tensor");
        // The second state is one whose products with a power of two are infinite.
        for scale in [1.0, 1e30] {
            let state = drawn(2 * hidden, 4).into_iter().map(|h| h * scale).collect::<Vec<_>>();
            let state = Tensor::new(&[2, 1, hidden], state).expect("a tensor");
            let run = |bytes: &[u8], threads| {
                let session = load(bytes.to_vec(), Precision::F32, threads);
                let outputs = session.run([("x", &x), ("h0", &state)]).expect("runs");
                (outputs.tensor("y").expect("y").to_vec::<f32>().expect("floats"), session)
            };
            let (want, plain) = run(&all, 1);
            let (got, compact) = run(&few, 1);
            for (at, (got, want)) in got.iter().zip(&want).enumerate() {
                // To the bit on AVX-512, which is what reads few bits, and everywhere where nothing does.
                assert!(got == want, "{op} {reset} {scale} {at}: {got} instead of {want}");
            }
            // An eighth less, where the processor can read them.
            let [plain, compact] = [plain, compact].map(|session| session.memory_used());
            let bytes = gates * hidden * hidden * 4;
            let saved = if least(1).is_some_and(|least| bytes >= least) { 2 * bytes / 8 } else { 0 };
            let off = (plain - compact).abs_diff(saved);
            assert!(off < saved / 20 + 4096, "{op} {reset}: {compact} of {plain} bytes");
        }
    }
}

#[test]
fn what_was_measured_with_all_bits_is_not_taken_for_the_time_with_few() {
    let hidden = units();
    let x = Tensor::new(&[STEPS, 1, INPUT], drawn(STEPS * INPUT, 3)).expect("a tensor");
    let state = Tensor::new(&[2, 1, hidden], vec![0f32; 2 * hidden]).expect("a tensor");
    let of = |batch: Extent<'_>, threads: usize| {
        let session = load(layer("RNN", (1, hidden), 0, batch), Precision::F32, threads);
        let nodes = session.profiled([("x", &x), ("h0", &state)]).expect("known shapes");
        nodes.into_iter().find(|node| node.op == "RNN").and_then(|node| node.signature).expect("measured")
    };
    let all = of(Extent::Name("batch"), 1);
    assert!(!all.contains("compact"), "{all}");
    for threads in [1, 2] {
        let few = least(threads).is_some_and(|least| hidden * hidden * 4 >= least);
        let few = if few { format!("{all} weights compact") } else { all.clone() };
        assert_eq!(of(Extent::N(1), threads), few, "{threads} threads");
    }
}
