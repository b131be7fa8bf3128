//! What elementwise chains could take at least, and what they take: the larger of the bytes that they read and write
//! over the bandwidth of a copy, and the sum of their operators' own times on tiles that stay in L1.
//!
//! `cargo bench --package recurve-benches --bench map_floor`
//!
//! Prints a Markdown table; times are medians in microseconds, on two threads.

use recurve::OpError;
use recurve::testing::{Link, Nest};
use std::hint::black_box;
use std::time::Instant;

const THREADS: usize = 2;
/// Elements of a tile that stays in L1, input and output.
const RESIDENT: usize = 1 << 10;

/// A chain that only memory bounds, and one with three functions of many cycles.
const CHAINS: [(&str, [Link; 12]); 2] = [
    (
        "arithmetic",
        [
            Link::Scale,
            Link::Shift,
            Link::Relu,
            Link::Product,
            Link::Difference,
            Link::Abs,
            Link::Shift,
            Link::Scale,
            Link::Product,
            Link::Relu,
            Link::Shift,
            Link::Scale,
        ],
    ),
    (
        "with functions",
        [
            Link::Scale,
            Link::Shift,
            Link::Relu,
            Link::Product,
            Link::Tanh,
            Link::Difference,
            Link::Abs,
            Link::Shift,
            Link::Exp,
            Link::Product,
            Link::Sigmoid,
            Link::Scale,
        ],
    ),
];

/// The median time of `nest` in microseconds.
fn median(mut nest: Nest, runs: usize) -> Result<f64, OpError> {
    let mut times = Vec::with_capacity(runs);
    for run in 0..runs + runs / 10 + 2 {
        let start = Instant::now();
        black_box(&mut nest).run()?;
        if run >= runs / 10 + 2 {
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Microseconds that `links` take for `elements` elements on all threads, did they lie in L1.
fn own_time(links: &[Link], elements: usize) -> Result<f64, OpError> {
    let nothing = median(Nest::chain(&[], RESIDENT, 1)?, 2000)?;
    let mut sum = 0.0;
    for link in links {
        sum += median(Nest::chain(&[*link], RESIDENT, 1)?, 2000)? - nothing;
    }
    Ok(sum.max(0.0) * (elements / RESIDENT) as f64 / THREADS as f64)
}

fn main() -> Result<(), OpError> {
    // `cargo test` runs benches with this flag: everything once, on little.
    let quick = std::env::args().any(|argument| argument == "--test");
    let sizes: &[usize] = if quick { &[1 << 14] } else { &[1 << 24, 1 << 20] };
    println!("| chain | elements | copy µs | own µs | measured µs | of the larger |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (name, links) in CHAINS {
        for &elements in sizes {
            let runs = if quick { 3 } else { (1 << 28) / elements };
            for length in [4, 8, 12] {
                let copy = median(Nest::copy(elements, THREADS)?, runs)?;
                let own = own_time(&links[..length], elements)?;
                let took = median(Nest::chain(&links[..length], elements, THREADS)?, runs)?;
                let share = copy.max(own) / took;
                println!("| {length}, {name} | {elements} | {copy:.0} | {own:.0} | {took:.0} | {share:.2} |");
            }
        }
    }
    Ok(())
}
