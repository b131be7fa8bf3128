//! The table of what fusion makes of known models: `docs/fusion.md`.
//!
//! A row is judged where its model is: that of the committed example always, those of `cargo xtask models` and those
//! beside the checkout where they have been put. Rows of absent models stay as they are written.

use anyhow::{Context, Result};
use recurve::model::{GraphInfo, NodeInfo};
use recurve::settings::{Fusion, Pinning};
use recurve::{Engine, Session};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A model of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What it is.
    pub name: &'static str,
    /// Its file, from the root of the checkout.
    file: &'static str,
    /// Shapes of its inputs, where the model leaves some open.
    shapes: Shapes,
}

type Shapes = &'static [(&'static str, &'static [usize])];

/// The table's models.
pub const ROWS: [Row; 8] = [
    row(
        "addition example",
        "examples/addition/addition.onnx",
        &[("question", &[6, 1]), ("h", &[1, 1, 128]), ("c", &[1, 1, 128])],
    ),
    row("unrolled LSTM, 2 layers, H=128, T=16", "target/peers/models/unrolled_lstm2l_h128_t16_b1.onnx", &[]),
    row("attention GRU decoder", "target/peers/models/attn_gru_h256_t20_b1.onnx", &[]),
    row("CRNN, 32×160", "target/peers/models/crnn_1x1x32x160.onnx", &[]),
    row("ResNet-18-like", "target/peers/models/resnet18_224.onnx", &[]),
    row("MobileNetV1-like", "target/peers/models/mobilenetv1_224.onnx", &[]),
    row("transformer encoder, 6 layers", "target/peers/models/transformer6l_d256_t64_b1.onnx", &[]),
    row(
        "Silero VAD",
        "../shared/models/silero-vad/silero_vad.onnx",
        &[("input", &[1, 576]), ("state", &[2, 1, 128])],
    ),
];

const fn row(name: &'static str, file: &'static str, shapes: Shapes) -> Row {
    Row { name, file, shapes }
}

/// A model as it runs.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Counts {
    /// Nodes that a kernel runs for, those of bodies included.
    operators: usize,
    /// Bytes that the nodes read and write whose shapes do not depend on data.
    bytes: f64,
}

impl Row {
    /// The model's file, where it is there.
    pub fn path(&self, root: &Path) -> Option<PathBuf> {
        Some(root.join(self.file)).filter(|path| path.is_file())
    }

    /// Shapes of inputs that the model leaves open.
    pub fn shapes(&self) -> &'static [(&'static str, &'static [usize])] {
        self.shapes
    }

    /// The model's graph; `None` where there is no file.
    pub fn graph(&self, root: &Path, engine: &Engine, fusion: Fusion) -> Result<Option<GraphInfo>> {
        let Some(path) = self.path(root) else { return Ok(None) };
        let session = Session::builder().with_engine(engine).with_fusion(fusion).load(&path)?;
        Ok(Some(session.graph(self.shapes.iter().copied()).with_context(|| self.name)?))
    }

    fn line(&self, root: &Path, engine: &Engine) -> Result<Option<String>> {
        let (Some(before), Some(after)) =
            (self.graph(root, engine, Fusion::Off)?, self.graph(root, engine, Fusion::On)?)
        else {
            return Ok(None);
        };
        let (before, after) = (Counts::of(&before), Counts::of(&after));
        Ok(Some(format!(
            "| {} | {} | {} | {} | {} |",
            self.name,
            before.operators,
            after.operators,
            kilobytes(before.bytes),
            kilobytes(after.bytes)
        )))
    }
}

impl Counts {
    fn of(graph: &GraphInfo) -> Self {
        Self { operators: nodes(graph), bytes: bytes(graph) }
    }
}

/// Of a node whose work depends on data, what its bodies move as far as that does not: one execution of that which
/// moves more.
fn bytes(graph: &GraphInfo) -> f64 {
    let moved = |node: &NodeInfo| match node.cost {
        Some(cost) => cost.bytes,
        None => node.bodies.iter().map(bytes).fold(0.0, f64::max),
    };
    graph.nodes.iter().map(moved).sum()
}

fn nodes(graph: &GraphInfo) -> usize {
    let own = |node: &NodeInfo| usize::from(node.runs) + node.bodies.iter().map(nodes).sum::<usize>();
    graph.nodes.iter().map(own).sum()
}

fn kilobytes(bytes: f64) -> String {
    format!("{:.1}", bytes / 1e3)
}

/// The engine that loads the table's models: what is fused does not depend on its threads.
pub fn engine() -> Result<Engine> {
    Ok(Engine::builder().with_threads(1).with_pinning(Pinning::None).build()?)
}

/// The page, with the rows of absent models as `committed` has them, and how many those are.
pub fn page(root: &Path, committed: &str) -> Result<(String, usize)> {
    let engine = engine()?;
    let mut page = String::from(
        "# Fusion\n\n\
        Written by `cargo run --release -p recurve-tests --bin fusion-counts -- --update`; a test checks the rows\n\
        whose models are there: `cargo xtask models` writes all but the first, which is committed, and the last,\n\
        Silero VAD: its published `silero_vad.onnx` is no part of the project and is looked for outside of the\n\
        checkout, in `../shared/models/silero-vad`. Rows whose models are not there stay as they are.\n\n\
        Operators are the nodes that a kernel runs for, those of bodies included (of `If` those of both branches),\n\
        before fusion (`--no-fusion`), and after recurrences are recovered and operators fused. Not counted are views,\n\
        for which nothing runs (reshapes, transposes that move axes of extent 1 only, contiguous slices and parts,\n\
        concatenations whose parts are made in their places), and what shapes and constants decide when a model is\n\
        bound to shapes. Bytes are what the operators read and write in one run at batch 1, each operand once per\n\
        operator, and of two branches those of the one that moves more. Operators whose extents are unknown until the\n\
        model runs count none: half of those of Silero VAD before, behind branches that shapes decide.\n\
        `recurve inspect MODEL --fused` tells what became of a model of yours, operator by operator, and\n\
        `--svg OUT.svg` draws it.\n\n\
        | model | operators before | after | kB moved before | after |\n|---|---:|---:|---:|---:|\n",
    );
    let mut absent = 0;
    for row in &ROWS {
        let line = match row.line(root, &engine)? {
            Some(line) => line,
            None => {
                absent += 1;
                let start = format!("| {} |", row.name);
                committed.lines().find(|line| line.starts_with(&start)).unwrap_or(&start).to_owned()
            }
        };
        let _ = writeln!(page, "{line}");
    }
    Ok((page, absent))
}
