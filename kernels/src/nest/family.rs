//! The variants of nests, and launches of them.

use super::code::Code;
use super::place::LIMIT;
use super::{
    MOST_INPUTS, MOST_OUTPUTS, Params, ROW, SHARED, THREAD_NARROW, THREAD_WIDE, THREADS, WARP_NARROW,
    WARP_WIDE, geometry,
};
use crate::device::Global;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject, Variant as _, Variants};

/// One way to walk nests.
#[derive(Debug)]
pub struct Variant {
    /// Its stable name.
    pub id: &'static str,
    wide: bool,
    /// Threads that take a point together.
    team: u32,
    /// The least loop inside that it is for.
    least: u64,
    entry: &'static Entry<Params>,
}

/// The family; the first that accepts is chosen. A warp's variant is for loops that its lanes can share.
pub static VARIANTS: Variants<Variant> = Variants(&[
    Variant { id: "nest.warp_narrow", wide: false, team: 32, least: 32, entry: &WARP_NARROW },
    Variant { id: "nest.warp_wide", wide: true, team: 32, least: 32, entry: &WARP_WIDE },
    Variant { id: "nest.thread_narrow", wide: false, team: 1, least: 0, entry: &THREAD_NARROW },
    Variant { id: "nest.thread_wide", wide: true, team: 1, least: 0, entry: &THREAD_WIDE },
]);

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffers<'a> {
    /// What [`Code::bytes`] gives.
    pub code: Buffer,
    /// The inputs by their numbers; those that no read names may be absent.
    pub inputs: &'a [Buffer],
    /// The outputs, which lie over no input.
    pub outputs: &'a [Buffer],
}

impl crate::launch::Variant for Variant {
    type Problem = Code;

    fn id(&self) -> &'static str {
        self.id
    }

    fn accepts(&self, code: &Code) -> Result<(), Reject> {
        if code.wide && !self.wide {
            return Err(Reject::Unsupported { what: "a 64-bit register" });
        }
        if code.is_empty() {
            return Err(Reject::Unsupported { what: "a nest without points" });
        }
        if code.inside < self.least {
            return Err(Reject::Unsupported { what: "a warp for so short loops" });
        }
        let got = u128::from(code.points) * u128::from(self.team) * 2;
        if got > LIMIT as u128 {
            let got = u64::try_from(got).unwrap_or(u64::MAX);
            return Err(Reject::Extent { name: "points", got, limit: LIMIT as u64 });
        }
        let bytes = code.axes * ROW + code.slots * ROW * if self.wide { 2 } else { 1 };
        if bytes > SHARED {
            return Err(Reject::SharedMemory { needed: bytes, limit: SHARED });
        }
        Ok(())
    }
}

impl Variant {
    /// A launch that has been checked.
    pub fn prepare(
        &self,
        code: &Code,
        buffers: &Buffers<'_>,
        device: &Device,
    ) -> Result<Prepared<Params>, Reject> {
        self.accepts(code)?;
        buffers.code.holds("code", 16 * code.words.len() as u64, 16)?;
        if buffers.inputs.len() < code.inputs.len() || buffers.outputs.len() < code.outputs.len() {
            return Err(Reject::Unsupported { what: "another number of operands than the nest has" });
        }
        let mut inputs = [Global::from_address(0); MOST_INPUTS];
        for ((slot, buffer), form) in inputs.iter_mut().zip(buffers.inputs).zip(&code.inputs) {
            if let Some((dtype, elements)) = form {
                let size = dtype.bits() as u64 / 8;
                buffer.holds("input", elements * size, size)?;
                *slot = Global::from_address(buffer.address);
            }
        }
        let mut outputs = [Global::from_address(0); MOST_OUTPUTS];
        for ((slot, buffer), (dtype, elements)) in outputs.iter_mut().zip(buffers.outputs).zip(&code.outputs)
        {
            let size = dtype.bits() as u64 / 8;
            buffer.holds("output", elements * size, size)?;
            if buffers.inputs.iter().any(|input| buffer.overlaps(input)) {
                return Err(Reject::Unsupported { what: "an output that lies over an input" });
            }
            *slot = Global::from_address(buffer.address);
        }
        let points = code.points as u32;
        let form = (code.axes, code.slots);
        let geometry = geometry(points, self.team, form, self.wide, device.multiprocessors);
        let params = Params {
            code: Global::from_address(buffers.code.address),
            inputs,
            outputs,
            points,
            outer: code.outer,
            stages: code.stages,
            axes: code.axes,
            slots: code.slots,
            teams: geometry.grid[0] * THREADS / self.team,
        };
        Prepared::new(self.entry, geometry, params, device)
    }
}
