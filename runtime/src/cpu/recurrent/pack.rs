//! Weights brought into the order of [`Layout`], once at load for constants and at each run otherwise.

use super::gate::Gate;
use super::layout::Layout;
use crate::cpu::amx::Unit;
use crate::cpu::caches::out_of_reach;
use crate::cpu::compact::{CompactPanels, Decoder};
use crate::cpu::number::{Compute as _, Real};
use crate::cpu::panels::{Stored, unit};
use crate::cpu::stored::{Weight, factor, out_of_range, same};
use crate::dtype::DType;
use crate::error::OpError;
use crate::memory::{Budget, Buffer};
use crate::ops::PackSite;
use crate::precision::{Kept, Precision};
use half::{bf16, f16};
use smallvec::SmallVec;
use std::ops::Range;

/// Bytes read from a constant between two calls to let go of them.
const PIECE: usize = 1 << 20;
/// Elements of a row that are moved at once: a cache line of f32.
const STRIP: usize = 16;
/// Weights that are looked at together.
const ROW: usize = 1 << 12;
/// Most units of a panel.
const LANES: usize = 64;

/// Packed weights of all directions; what was not constant is absent.
#[derive(Debug)]
pub(crate) struct Weights {
    /// W in panels.
    pub(super) input: Option<PackedPanels>,
    /// R in panels.
    pub(super) recurrent: Option<PackedPanels>,
    /// Biases and extras.
    pub(super) vectors: Option<Buffer>,
}

impl Weights {
    /// Whether some of them lie in fewer bits than they have, of which sizes, threads and what the model fixes decide.
    pub(crate) fn are_compact(&self) -> bool {
        let compact = |panels: &Option<PackedPanels>| matches!(panels, Some(PackedPanels::Compact(_)));
        compact(&self.input) || compact(&self.recurrent)
    }
}

/// Panels of all directions in one format.
#[derive(Debug)]
pub(super) enum PackedPanels {
    Plain {
        format: Precision,
        panels: Buffer,
        /// Factors of the rows of the matrix, that is of the columns of the panels, where the format has them.
        factors: Buffer,
        ordinary: unit::Ordinary,
    },
    /// Of `f32`, in fewer bits.
    Compact(CompactPanels),
}

impl PackedPanels {
    /// The matrix unit, where it may multiply the panels.
    pub(super) fn unit<F: Gate>(&self) -> Option<Unit> {
        match (self, self.stored::<F>()) {
            (Self::Plain { ordinary, .. }, Stored::Own(panels)) => ordinary.unit(same(panels)?),
            _ => None,
        }
    }

    /// The panels as a step reads them.
    pub(super) fn stored<F: Gate>(&self) -> Stored<'_, F> {
        match self {
            Self::Plain { format, panels, factors, .. } => match format {
                Precision::F32 | Precision::Tf32 => Stored::Own(panels.elements()),
                Precision::F16 => Stored::F16(panels.elements()),
                Precision::Bf16 => Stored::Bf16(panels.elements()),
                Precision::Int8 => Stored::Int8 { panels: panels.elements(), factors: factors.elements() },
            },
            Self::Compact(panels) => Stored::Compact(panels.all()),
        }
    }
}

/// Raw bytes of the bias and peephole inputs, where given.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Vectors<'a> {
    pub(super) bias: Option<&'a [u8]>,
    pub(super) peephole: Option<&'a [u8]>,
}

/// Packs input `index`, `[directions, gates · hidden, depth]`, in the format that the session stores weights in, or as it
/// is where that cannot hold it; in fewer bits where it is multiplied with a single row at a time, as `single` says, and
/// that pays.
pub(super) fn packed_panels<S: Real<Compute: Gate>>(
    layout: &Layout,
    (index, source): (usize, &[u8]),
    (directions, depth): (usize, usize),
    single: bool,
    site: &PackSite<'_>,
) -> Result<PackedPanels, OpError> {
    let wanted = site.storing.precision;
    let misfit = match wanted {
        Precision::F32 | Precision::Tf32 => None,
        Precision::F16 => misfit_in::<S, f16>(source, site.release),
        Precision::Bf16 => misfit_in::<S, bf16>(source, site.release),
        Precision::Int8 => misfit_in::<S, i8>(source, site.release),
    };
    let format = if misfit.is_some() { Precision::F32 } else { wanted };
    let size = (directions, depth);
    if single
        && let Precision::F32 | Precision::Tf32 = format
        && let Some(panels) = packed_compact::<S>(layout, source, size, site)?
    {
        return Ok(PackedPanels::Compact(panels));
    }
    let packed = match format {
        Precision::F32 | Precision::Tf32 => packed_as::<S, S::Compute>(layout, source, size, site),
        Precision::F16 => packed_as::<S, f16>(layout, source, size, site),
        Precision::Bf16 => packed_as::<S, bf16>(layout, source, size, site),
        Precision::Int8 => packed_as::<S, i8>(layout, source, size, site),
    }?;
    let [panels, factors] = packed;
    let bytes = panels.bytes().len() + factors.bytes().len();
    let kept = misfit.map(|weight| Kept::OutOfRange { weight });
    site.storing.note(index, source.len() / size_of::<S>(), [source.len(), bytes], kept);
    Ok(PackedPanels::Plain { format, panels, factors, ordinary: unit::Ordinary::default() })
}

/// The panels in fewer bits, where the processor can read them, they are large, and few of the weights lie apart.
fn packed_compact<S: Real<Compute: Gate>>(
    layout: &Layout,
    source: &[u8],
    (directions, depth): (usize, usize),
    site: &PackSite<'_>,
) -> Result<Option<CompactPanels>, OpError> {
    let bytes = layout.panels(depth).saturating_mul(size_of::<f32>());
    let [group, ..] = layout.groups() else { return Ok(None) };
    let (width, elements) = (group.width(), directions * layout.panels(depth));
    // Directions are read one after the other.
    let large = bytes >= out_of_reach(site.threads) && u32::try_from(elements).is_ok();
    let (Some(decoder), true, true) = (Decoder::detect(), S::DTYPE == DType::F32, large) else {
        return Ok(None);
    };
    let mut scratch = Buffer::zeroed_for::<f32>(width * depth, site.budget)?;
    let mut packed = CompactPanels::new(decoder, (width, depth), elements / (width * depth), site.budget)?;
    let mut fits = true;
    each_panel::<S>(layout, source, depth, site.release, |at, rows| {
        fits = fits && {
            rows.interleave::<S, S::Compute>(scratch.elements_mut(), &mut []);
            packed.set(at / (width * depth), scratch.elements())
        };
    });
    Ok(fits.then_some(packed))
}

/// A weight that format `E` cannot hold.
fn misfit_in<S: Real, E: Weight<S::Compute>>(source: &[u8], release: &dyn Fn(&[u8])) -> Option<f64> {
    let mut row = Vec::with_capacity(ROW);
    source.chunks(PIECE).find_map(|piece| {
        // Any part of a row tells: integers can stand for finite weights, however large.
        let found = piece.chunks(ROW * size_of::<S>()).find_map(|part| {
            row.clear();
            let weights = part.chunks_exact(size_of::<S>());
            row.extend(weights.map(|w| bytemuck::pod_read_unaligned::<S>(w).load()));
            out_of_range::<S::Compute, E>(&row)
        });
        release(piece);
        found
    })
}

/// The panels in format `E`, and the factors of their columns.
fn packed_as<S: Real<Compute: Gate>, E: Weight<S::Compute>>(
    layout: &Layout,
    source: &[u8],
    (directions, depth): (usize, usize),
    site: &PackSite<'_>,
) -> Result<[Buffer; 2], OpError> {
    let columns = if E::SCALED { directions * layout.panels(1) } else { 0 };
    let mut panels = Buffer::zeroed_for::<E>(directions * layout.panels(depth), site.budget)?;
    let mut factors = Buffer::zeroed_for::<S::Compute>(columns, site.budget)?;
    pack_panels::<S, E>(layout, source, depth, (panels.elements_mut(), factors.elements_mut()), site.release);
    Ok([panels, factors])
}

/// Packs `[directions, gates · hidden, depth]` into `to`, and the factors of its rows into `factors` where the format has
/// them. `release` is told of pieces that were read for the last time.
pub(super) fn pack_panels<S: Real, E: Weight<S::Compute>>(
    layout: &Layout,
    source: &[u8],
    depth: usize,
    (to, factors): (&mut [E], &mut [S::Compute]),
    release: &dyn Fn(&[u8]),
) {
    if source.is_empty() {
        to.fill(E::default());
        return;
    }
    each_panel::<S>(layout, source, depth, release, |at, rows| {
        let factors = factors.get_mut(at / depth..at / depth + rows.width).unwrap_or_default();
        rows.interleave::<S, E>(&mut to[at..at + rows.width * depth], factors);
    });
}

/// The rows of a matrix that become a panel.
struct PanelRows<'a> {
    /// Of each gate those of its units that are no padding.
    gates: SmallVec<[&'a [u8]; 4]>,
    depth: usize,
    /// Units of the panel, and its columns.
    units: usize,
    width: usize,
}

/// Calls `each` for every panel of `[directions, gates · hidden, depth]`, with the number of its first element.
fn each_panel<S>(
    layout: &Layout,
    source: &[u8],
    depth: usize,
    release: &dyn Fn(&[u8]),
    mut each: impl FnMut(usize, &PanelRows<'_>),
) {
    let row_bytes = depth * size_of::<S>();
    let matrix = layout.cell.gates() * layout.hidden * row_bytes;
    if matrix == 0 {
        return;
    }
    for (plane, source) in source.chunks_exact(matrix).enumerate() {
        for (index, group) in layout.groups().iter().enumerate() {
            let (units, width) = (group.units, group.width());
            let rows_of = |gate: usize, units: Range<usize>| {
                let row = (group.first + gate) * layout.hidden;
                &source[(row + units.start) * row_bytes..(row + units.end) * row_bytes]
            };
            let first_element =
                plane * layout.panels(depth) + layout.panels_of(index, depth, 0..layout.padded).start;
            let mut released = 0;
            for block in 0..layout.padded / units {
                let first = (block * units).min(layout.hidden);
                let last = (first + units).min(layout.hidden);
                let gates = (0..group.gates).map(|gate| rows_of(gate, first..last)).collect();
                each(first_element + block * width * depth, &PanelRows { gates, depth, units, width });
                if (last - released) * row_bytes >= PIECE || last == layout.hidden {
                    (0..group.gates).for_each(|gate| release(rows_of(gate, released..last)));
                    released = last;
                }
            }
        }
    }
    // Pages on the seams of the pieces.
    release(source);
}

impl PanelRows<'_> {
    /// Writes the panel, and the factors of its columns where the format has them.
    fn interleave<S: Real, E: Weight<S::Compute>>(&self, panel: &mut [E], factors: &mut [S::Compute]) {
        for (gate, rows) in self.gates.iter().enumerate() {
            let at = gate * self.units;
            let factors = factors.get_mut(at..at + self.units).unwrap_or_default();
            interleave::<S, E>(rows, self.depth, panel, (self.width, at, self.units), factors);
        }
    }
}

/// Element `k` of row `u` of `rows` goes to column `at + u` of row `k` of `panel`; columns up to `units`
/// without a row become zero.
fn interleave<S: Real, E: Weight<S::Compute>>(
    rows: &[u8],
    depth: usize,
    panel: &mut [E],
    (width, at, units): (usize, usize, usize),
    factors: &mut [S::Compute],
) {
    let size = size_of::<S>();
    let count = rows.len() / (depth * size);
    let read = |bytes: &[u8]| bytemuck::pod_read_unaligned::<S>(bytes).load();
    let mut own = [S::Compute::one(); LANES];
    if E::SCALED {
        for (unit, row) in rows.chunks_exact(depth * size).enumerate() {
            // Rows hold finite weights alone: other formats were chosen where one does not.
            let parts = row.chunks(STRIP * size).map(|part| {
                let mut strip = [S::Compute::zero(); STRIP];
                strip.iter_mut().zip(part.chunks_exact(size)).for_each(|(to, from)| *to = read(from));
                factor(&strip).unwrap_or_default()
            });
            own[unit] = parts.fold(S::Compute::zero(), |a, b| if b > a { b } else { a });
            factors[unit] = own[unit];
        }
    }
    for start in (0..depth).step_by(STRIP) {
        let end = (start + STRIP).min(depth);
        for unit in 0..units {
            let lines = panel[start * width..end * width].iter_mut().skip(at + unit).step_by(width);
            let (mut strip, mut rounded) = ([S::Compute::zero(); STRIP], [E::default(); STRIP]);
            if unit < count {
                let row = &rows[(unit * depth + start) * size..(unit * depth + end) * size];
                strip.iter_mut().zip(row.chunks_exact(size)).for_each(|(to, from)| *to = read(from));
                E::round(&strip, own[unit], &mut rounded);
            }
            lines.zip(rounded).for_each(|(to, from)| *to = from);
        }
    }
}

/// Packs biases and peepholes of all directions into a new buffer.
pub(super) fn packed_vectors<S: Real>(
    layout: &Layout,
    source: Vectors<'_>,
    directions: usize,
    budget: &Budget,
) -> Result<Buffer, OpError> {
    let mut buffer = Buffer::zeroed_for::<S::Compute>(directions * layout.vectors(), budget)?;
    vectors::<S>(layout, source, buffer.elements_mut());
    Ok(buffer)
}

/// Packs biases and peepholes into `to`.
///
/// The biases of W and R are added, except that of the hidden gate of a GRU with `linear_before_reset`, whose
/// recurrent part is multiplied by the reset gate and stands among the extras.
pub(super) fn vectors<S: Real>(layout: &Layout, source: Vectors<'_>, to: &mut [S::Compute]) {
    let (hidden, padded, gates) = (layout.hidden, layout.padded, layout.cell.gates());
    let zero = S::Compute::default();
    to.fill(zero);
    if hidden == 0 {
        return;
    }
    let read = |bytes: Option<&[u8]>, index: usize| {
        let size = size_of::<S>();
        let part = bytes.and_then(|b| b.get(index * size..(index + 1) * size));
        part.map_or(zero, |part| bytemuck::pod_read_unaligned::<S>(part).load())
    };
    let apart = layout.cell == crate::ops::recurrence::Cell::Gru { linear_before_reset: true };
    for (direction, to) in to.chunks_exact_mut(layout.vectors()).enumerate() {
        let (biases, extras) = to.split_at_mut(layout.panels(1));
        let bias = |row: usize, unit: usize| read(source.bias, (direction * 2 * gates + row) * hidden + unit);
        for (index, group) in layout.groups().iter().enumerate() {
            let biases = &mut biases[layout.panels_of(index, 1, 0..padded)];
            #[allow(clippy::needless_range_loop, reason = "extras are there for one form of the GRU only")]
            for unit in 0..hidden {
                for gate in 0..group.gates {
                    let row = group.first + gate;
                    let at = unit / group.units * group.width() + gate * group.units + unit % group.units;
                    let (input, recurrent) = (bias(row, unit), bias(gates + row, unit));
                    if apart && row == 2 {
                        biases[at] = input;
                        extras[unit] = recurrent;
                    } else {
                        biases[at] = input.add(recurrent);
                    }
                }
            }
        }
        if let Some(peephole) = source.peephole {
            for (row, extras) in extras.chunks_exact_mut(padded).enumerate() {
                for (unit, extra) in extras[..hidden].iter_mut().enumerate() {
                    *extra = read(Some(peephole), (direction * 3 + row) * hidden + unit);
                }
            }
        }
    }
}

/// `count` elements of `T` from the front of `rest`, aligned like it when its length allows.
#[allow(clippy::mut_mut, reason = "the slice itself is moved on")]
pub(super) fn take<'a, T: bytemuck::Pod>(
    rest: &mut &'a mut [u8],
    count: usize,
) -> Result<&'a mut [T], OpError> {
    let short = || OpError::internal("recurrent scratch memory is too small");
    let bytes = spaced::<T>(count).ok_or_else(short)?;
    let (part, tail) = std::mem::take(rest).split_at_mut_checked(bytes).ok_or_else(short)?;
    *rest = tail;
    let part = &mut part[..count * size_of::<T>()];
    bytemuck::try_cast_slice_mut(part)
        .map_err(|_| OpError::internal("recurrent scratch memory is not aligned"))
}

/// Bytes that [`take`] uses for `count` elements of `T`: whole cache lines.
pub(super) fn spaced<T>(count: usize) -> Option<usize> {
    count.checked_mul(size_of::<T>())?.checked_next_multiple_of(64)
}
