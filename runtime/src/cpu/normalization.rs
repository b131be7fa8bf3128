//! Layer and root-mean-square normalisation of contiguous rows as row programs.
//!
//! `y = (x − μ) / √(σ² + ε) · scale + bias`, `μ = Σx / n`, `σ² = Σ(x − μ)² / n` in a pass of its own, so that nothing
//! cancels; without a mean, `y = x / √(Σx² / n + ε) · scale`.

use super::Kernel;
use super::program::{RowKernel, RowLayout};
use crate::dtype::DType;
use crate::error::OpError;
use crate::loops::program::{Builder, Kind, Program, Reg};
use crate::loops::rows::{Combine, Extent, RowOutput, RowProgram, Source, Stage};

/// What is normalised, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Normalization {
    /// Element type of the input.
    pub(crate) dtype: DType,
    /// Element type of the scale, the bias and the output.
    pub(crate) output: DType,
    /// Elements of a row.
    pub(crate) length: usize,
    /// What is added to the variance or the mean square.
    pub(crate) epsilon: f64,
    /// Whether a mean is subtracted.
    pub(crate) centred: bool,
    /// Whether there is a bias.
    pub(crate) bias: bool,
}

fn sum(program: Program, source: Source, passing: usize) -> Stage {
    let reduced = vec![(Combine::Sum, source)];
    Stage { program, extent: Extent::Row, reduced, passing, kept: 0, stored: Vec::new() }
}

impl Normalization {
    /// The kernel of a node whose inputs are `x`, scale and bias, of `rows` rows.
    pub(crate) fn kernel(&self, rows: usize, threads: usize) -> Result<Option<Kernel>, OpError> {
        let Some(program) = self.row_program()? else { return Ok(None) };
        let parameter = RowLayout::plain(0);
        let mut layouts = vec![RowLayout::plain(self.length), parameter.clone()];
        layouts.extend(self.bias.then_some(parameter));
        let kernel = RowKernel::new(&program, [rows, self.length], &layouts, threads)?;
        Ok(Some(kernel.into_kernel((0..layouts.len()).collect())))
    }

    /// The program of inputs `x`, scale and, where there is one, bias; the latter two with an element per column.
    pub(crate) fn row_program(&self) -> Result<Option<RowProgram>, OpError> {
        let Some(kind) = Kind::of(self.dtype) else { return Ok(None) };
        let Some(out) = Kind::of(self.output) else { return Ok(None) };
        if kind == Kind::F32 && out == Kind::F64 {
            // The parameters' precision asks for sums of more than f32.
            return Ok(None);
        }
        let wide = kind.dtype();
        let mut inputs = vec![self.dtype, self.output];
        inputs.extend(self.bias.then_some(self.output));
        let (mut types, mut stages) = (inputs.clone(), Vec::new());
        // Σx of a row is an input after these where there is a mean, Σ(x − μ)² one after that.
        let total = types.len();
        if self.centred {
            let mut b = Builder::new(&types);
            stages.push(if wide == self.dtype {
                sum(b.finish(&[])?, Source::Input(0), 0)
            } else {
                let x = b.input(0);
                sum(b.finish(&[(x, wide)])?, Source::Output(0), 1)
            });
            types.push(wide);
        }
        let mut b = Builder::new(&types);
        let away = self.centred_input(&mut b, total);
        let square = b.mul(away, away);
        stages.push(sum(b.finish(&[(square, wide)])?, Source::Output(0), 1));
        types.push(wide);
        let mut b = Builder::new(&types);
        let (squares, count) = (b.input(types.len() - 1), b.constant(kind, self.length as f64));
        let (mean_square, epsilon) = (b.div(squares, count), b.constant(kind, self.epsilon));
        let raised = b.add(mean_square, epsilon);
        let root = b.sqrt(raised);
        let (inverse, away) = (b.recip(root), self.centred_input(&mut b, total));
        let normal = b.mul(away, inverse);
        let (normal, scale) = (b.convert(normal, out), b.input(1));
        let y = if self.bias {
            let bias = b.input(2);
            b.mul_add(normal, scale, bias)
        } else {
            b.mul(normal, scale)
        };
        let program = b.finish(&[(y, self.output)])?;
        let (extent, stored) = (Extent::Row, vec![0]);
        stages.push(Stage { program, extent, reduced: Vec::new(), passing: 0, kept: 0, stored });
        let output = RowOutput { dtype: self.output, single: false };
        RowProgram::new(inputs, vec![output], stages).map(Some)
    }

    /// `x`, less the mean that input `total` is the multiple of where there is one.
    fn centred_input(&self, b: &mut Builder, total: usize) -> Reg {
        let x = b.input(0);
        if !self.centred {
            return x;
        }
        let (total, count) = (b.input(total), b.constant_as(x, self.length as f64));
        let mean = b.div(total, count);
        b.sub(x, mean)
    }
}
