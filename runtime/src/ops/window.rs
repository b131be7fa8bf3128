//! Sliding windows over the spatial axes of `[N, C, D1, …]`: the attributes that convolutions and pools share,
//! and the extents that follow from them.

use super::attributes::NodeSpec;
use crate::error::OpError;
use crate::graph::Dim;

/// Where padding comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AutoPad {
    /// The `pads` attribute.
    Explicit,
    /// None.
    Valid,
    /// As much as makes the output `⌈input / stride⌉`, the odd one at the end.
    SameUpper,
    /// The same, the odd one at the beginning.
    SameLower,
}

/// The attributes of a window. Lists are empty where the attribute is not given.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) kernel: Vec<usize>,
    pub(crate) strides: Vec<usize>,
    pub(crate) dilations: Vec<usize>,
    /// All beginnings, then all ends.
    pub(crate) pads: Vec<usize>,
    pub(crate) auto_pad: AutoPad,
    /// Whether the output extent is rounded up.
    pub(crate) ceil: bool,
}

/// A window along one axis with everything known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    pub(crate) begin: usize,
    pub(crate) end: usize,
}

impl Window {
    /// Reads the attributes. `dilations` and `ceil_mode` are left alone where the version has none.
    pub(crate) fn parse(node: &NodeSpec, dilations: bool, ceil: bool) -> Result<Self, OpError> {
        let positive = |name: &str| {
            let values = node.sizes(name)?.unwrap_or_default();
            if values.contains(&0) { Err(OpError::attribute(name, "holds 0")) } else { Ok(values) }
        };
        let auto_pad = match node.string("auto_pad")?.as_deref() {
            None | Some("NOTSET" | "") => AutoPad::Explicit,
            Some("VALID") => AutoPad::Valid,
            Some("SAME_UPPER") => AutoPad::SameUpper,
            Some("SAME_LOWER") => AutoPad::SameLower,
            Some(other) => return Err(OpError::attribute("auto_pad", format!("is `{other}`"))),
        };
        Ok(Self {
            kernel: positive("kernel_shape")?,
            strides: positive("strides")?,
            dilations: if dilations { positive("dilations")? } else { Vec::new() },
            pads: node.sizes("pads")?.unwrap_or_default(),
            auto_pad,
            ceil: ceil && node.flag_or("ceil_mode", false)?,
        })
    }

    /// The same with the channels of a block as the last axis, along which it is of one element.
    pub(crate) fn over_blocks(&self) -> Self {
        let with = |list: &[usize], last| if list.is_empty() { Vec::new() } else { [list, &[last]].concat() };
        let (begins, ends) = self.pads.split_at(self.pads.len() / 2);
        Self {
            kernel: with(&self.kernel, 1),
            strides: with(&self.strides, 1),
            dilations: with(&self.dilations, 1),
            pads: [with(begins, 0), with(ends, 0)].concat(),
            ..self.clone()
        }
    }

    /// The kernel's extents, which an operator needs whose weights do not give them.
    pub(crate) fn required_kernel(&self) -> Result<&[usize], OpError> {
        if self.kernel.is_empty() {
            return Err(OpError::attribute("kernel_shape", "is missing"));
        }
        Ok(&self.kernel)
    }

    /// Whether the lists fit `rank` spatial axes.
    pub(crate) fn check_rank(&self, rank: usize) -> Result<(), OpError> {
        let lists = [
            ("kernel_shape", self.kernel.len(), rank),
            ("strides", self.strides.len(), rank),
            ("dilations", self.dilations.len(), rank),
            ("pads", self.pads.len(), 2 * rank),
        ];
        for (name, len, want) in lists {
            if len != 0 && len != want {
                return Err(OpError::attribute(name, format!("has {len} numbers for {rank} spatial axes")));
            }
        }
        Ok(())
    }

    fn numbers(&self, axis: usize, rank: usize) -> (usize, usize, usize, usize) {
        let at = |list: &[usize], index: usize, default| list.get(index).copied().unwrap_or(default);
        let explicit = self.auto_pad == AutoPad::Explicit;
        let pad = |index| if explicit { at(&self.pads, index, 0) } else { 0 };
        (at(&self.strides, axis, 1), at(&self.dilations, axis, 1), pad(axis), pad(axis + rank))
    }

    /// The window along `axis` of `rank` spatial axes for an input and kernel extent.
    pub(crate) fn span(
        &self,
        axis: usize,
        rank: usize,
        input: usize,
        kernel: usize,
    ) -> Result<Span, OpError> {
        let (stride, dilation, mut begin, mut end) = self.numbers(axis, rank);
        let wide = |v: usize| v as i128;
        let reach = wide(dilation) * (wide(kernel) - 1) + 1;
        let too_large = || OpError::shape("the window's extents are too large");
        let too_small = || {
            OpError::shape(format!("a window of {kernel} (dilation {dilation}) exceeds the extent {input}"))
        };
        if kernel == 0 {
            return Err(OpError::shape("a window has no extent"));
        }
        let output = match self.auto_pad {
            AutoPad::SameUpper | AutoPad::SameLower => {
                let output = input.div_ceil(stride);
                let needed = ((wide(output) - 1) * wide(stride) + reach - wide(input)).max(0);
                let needed = usize::try_from(needed).map_err(|_| too_large())?;
                let less = needed / 2;
                (begin, end) = match self.auto_pad {
                    AutoPad::SameUpper => (less, needed - less),
                    _ => (needed - less, less),
                };
                output
            }
            AutoPad::Explicit | AutoPad::Valid => {
                let room = wide(input) + wide(begin) + wide(end) - reach;
                let mut output = room.div_euclid(wide(stride)) + 1;
                if self.ceil && self.auto_pad == AutoPad::Explicit {
                    output = (room + wide(stride) - 1).div_euclid(wide(stride)) + 1;
                    // A window that would start in the padding at the end is left out.
                    if (output - 1) * wide(stride) >= wide(input) + wide(begin) {
                        output -= 1;
                    }
                }
                if output < 0 {
                    return Err(too_small());
                }
                usize::try_from(output).map_err(|_| too_large())?
            }
        };
        // Positions are computed in isize later on.
        let last = wide(output) * wide(stride) + reach + wide(begin) + wide(end) + wide(input);
        if last >= wide(isize::MAX as usize) {
            return Err(too_large());
        }
        Ok(Span { input, output, kernel, stride, dilation, begin, end })
    }

    /// The output extent along `axis` of `rank` for an input extent that may not be known.
    pub(crate) fn output(&self, axis: usize, rank: usize, input: &Dim, kernel: &Dim) -> Result<Dim, OpError> {
        if let (Some(input), Some(kernel)) = (input.known(), kernel.known()) {
            return self.span(axis, rank, input, kernel).map(|s| Dim::Known(s.output));
        }
        let (stride, dilation, begin, end) = self.numbers(axis, rank);
        let Ok(signed) = i64::try_from(stride) else { return Ok(Dim::Unknown) };
        if matches!(self.auto_pad, AutoPad::SameUpper | AutoPad::SameLower) {
            return Ok(input.affine(1, signed - 1).floor_div(stride));
        }
        let Some(kernel) = kernel.known() else { return Ok(Dim::Unknown) };
        let room = begin as i128 + end as i128 - dilation as i128 * (kernel as i128 - 1) - 1;
        let Ok(offset) = i64::try_from(room + stride as i128) else { return Ok(Dim::Unknown) };
        if self.ceil && stride > 1 && self.auto_pad == AutoPad::Explicit {
            if *input == Dim::Unknown {
                return Ok(Dim::Unknown);
            }
            return Ok(Dim::opaque(format!("windows({input},{kernel},{stride},{dilation},{begin},{end})")));
        }
        Ok(input.affine(1, offset).floor_div(stride))
    }
}

impl Span {
    /// The taps of the window at `position` that lie inside the input.
    pub(crate) fn taps(&self, position: usize) -> std::ops::Range<usize> {
        let start = position * self.stride;
        let first = self.begin.saturating_sub(start).div_ceil(self.dilation);
        let room = (self.input + self.begin).saturating_sub(start);
        let last = room.div_ceil(self.dilation).min(self.kernel);
        first.min(last)..last
    }

    /// The positions at which tap `tap` lies inside the input.
    pub(crate) fn positions(&self, tap: usize) -> std::ops::Range<usize> {
        let shift = tap * self.dilation;
        let first = self.begin.saturating_sub(shift).div_ceil(self.stride);
        let room = (self.input + self.begin).saturating_sub(shift);
        let last = room.div_ceil(self.stride).min(self.output);
        first.min(last)..last
    }

    /// The input index of tap `tap` at `position`, which must be inside the input.
    pub(crate) fn index(&self, position: usize, tap: usize) -> usize {
        position * self.stride + tap * self.dilation - self.begin
    }
}
