//! Graphs of the shape of recurrent networks: grids of layers × time, branches, encoder and decoder.
//!
//! A cell of a grid reads the cell below it and the cell before it. Cells take 8–16 µs on the GPU and
//! `ratio · u(0.4, 1.6)` times as long on a CPU lane. The input is one tensor on the host, read by every cell of
//! the first layer; the output of the last cell is needed on the host. Every layer has its weight.

use crate::generate::{host_and_gpu, instance, on_grid};
use crate::instance::{Instance, Task, Tensor, Weight, WeightBytes};
use crate::random::Random;

/// The shape of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Stacked layers over time.
    Grid {
        /// Layers.
        layers: usize,
        /// Time steps.
        steps: usize,
    },
    /// Parallel chains between one task that feeds and one that joins them.
    Branches {
        /// Chains.
        branches: usize,
        /// Tasks of each.
        length: usize,
    },
    /// Two grids; every cell of the second's first layer also reads the last cell of the first.
    EncoderDecoder {
        /// Layers of each grid.
        layers: usize,
        /// Time steps of each grid.
        steps: usize,
    },
}

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recurrent {
    /// The shape.
    pub shape: Shape,
    /// How many times slower a task is on a CPU lane, on average.
    pub ratio: f64,
    /// Length of a transfer.
    pub transfer_us: f64,
    /// CPU lanes beside the one GPU lane.
    pub cpus: usize,
    /// Seed of the costs.
    pub seed: u64,
}

/// Collects tasks and tensors.
struct Graph {
    spec: Recurrent,
    random: Random,
    tensors: Vec<Tensor>,
    tasks: Vec<Task>,
}

impl Graph {
    /// A task that reads tensors of those names and writes one of its own name.
    fn cell(&mut self, name: String, reads: Vec<String>, weight: String) -> String {
        let gpu = on_grid(self.random.between(8.0, 16.0));
        let cpu = on_grid(gpu * self.spec.ratio * self.random.between(0.4, 1.6));
        let mut cost_us = vec![Some(cpu); self.spec.cpus];
        cost_us.push(Some(gpu));
        let writes = vec![name.clone()];
        self.tensor(name.clone());
        let weights = vec![weight];
        self.tasks.push(Task { name: name.clone(), cost_us, reads, writes, weights, workspace_bytes: 0 });
        name
    }

    fn tensor(&mut self, name: String) {
        let transfer_us = Some(self.spec.transfer_us);
        self.tensors.push(Tensor { name, bytes: 4096, transfer_us, ..Tensor::default() });
    }

    /// A grid that reads `feed` in its first layer; returns its last cell.
    fn grid(&mut self, prefix: &str, layers: usize, steps: usize, feed: &[String]) -> String {
        let mut last = String::new();
        let mut below: Vec<String> = Vec::new();
        for l in 0..layers {
            let mut row = Vec::new();
            let mut inputs = below.into_iter();
            for t in 0..steps {
                let mut reads = inputs.next().map_or_else(|| feed.to_vec(), |b| vec![b]);
                if t > 0 {
                    reads.push(last.clone());
                }
                last = self.cell(format!("{prefix}{l}.{t}"), reads, format!("{prefix}R{l}"));
                row.push(last.clone());
            }
            below = row;
        }
        last
    }
}

/// Generates an instance.
pub fn recurrent(spec: Recurrent) -> Instance {
    let random = Random::new(spec.seed);
    let mut g = Graph { spec, random, tensors: Vec::new(), tasks: Vec::new() };
    g.tensor("x".to_owned());
    let input = ["x".to_owned()];
    let output = match spec.shape {
        Shape::Grid { layers, steps } => g.grid("h", layers, steps, &input),
        Shape::Branches { branches, length } => {
            let feed = g.cell("feed".to_owned(), input.to_vec(), "Rfeed".to_owned());
            let mut ends = Vec::new();
            for b in 0..branches {
                let mut last = feed.clone();
                for i in 0..length {
                    last = g.cell(format!("b{b}.{i}"), vec![last], format!("R{b}"));
                }
                ends.push(last);
            }
            g.cell("join".to_owned(), ends, "Rjoin".to_owned())
        }
        Shape::EncoderDecoder { layers, steps } => {
            let context = g.grid("e", layers, steps, &input);
            g.grid("d", layers, steps, &[context])
        }
    };
    for tensor in g.tensors.iter_mut().filter(|t| t.name == output) {
        tensor.needed_in = vec!["host".to_owned()];
    }
    let mut names: Vec<String> = g.tasks.iter().flat_map(|t| t.weights.clone()).collect();
    names.sort();
    names.dedup();
    let mut made = instance(host_and_gpu(spec.cpus, 1, spec.transfer_us, 25_000.0), g.tensors, g.tasks);
    for name in names {
        let bytes = WeightBytes::Same((1 + g.random.below(4) as u64) << 20);
        made.weights.push(Weight { name, bytes });
    }
    made
}
