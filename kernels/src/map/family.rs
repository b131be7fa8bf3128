//! The variants of maps, and launches of them.

use super::code::Code;
use super::{MOST_OUTPUTS, NARROW, NARROW_SLOT, Params, SHARED, WIDE, WIDE_SLOT, geometry};
use crate::device::Global;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject, Variant as _, Variants};

/// One way to interpret programs.
#[derive(Debug)]
pub struct Variant {
    /// Its stable name.
    pub id: &'static str,
    wide: bool,
    entry: &'static Entry<Params>,
}

/// The family; the first that accepts is chosen.
pub static VARIANTS: Variants<Variant> = Variants(&[
    Variant { id: "map.narrow", wide: false, entry: &NARROW },
    Variant { id: "map.wide", wide: true, entry: &WIDE },
]);

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffers<'a> {
    /// What [`Code::bytes`] gives.
    pub code: Buffer,
    /// The inputs.
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
        if code.result.is_some() {
            return Err(Reject::Unsupported { what: "a result before the program" });
        }
        if code.count == 0 {
            return Err(Reject::Unsupported { what: "a map without elements" });
        }
        let limit = SHARED / if self.wide { WIDE_SLOT } else { NARROW_SLOT };
        if code.slots > limit {
            return Err(Reject::Extent {
                name: "live registers",
                got: code.slots.into(),
                limit: limit.into(),
            });
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
        buffers.code.holds("code", 16 * u64::from(code.instructions), 16)?;
        if buffers.outputs.len() != code.outputs.len() {
            return Err(Reject::Unsupported { what: "another number of outputs than the program has" });
        }
        let inputs = code.bind(buffers.inputs)?;
        let mut outputs = [Global::from_address(0); MOST_OUTPUTS];
        for ((slot, buffer), dtype) in outputs.iter_mut().zip(buffers.outputs).zip(&code.outputs) {
            let size = dtype.bits() as u64 / 8;
            buffer.holds("output", code.count * size, (4 * size).min(16))?;
            if buffers.inputs.iter().any(|input| buffer.overlaps(input)) {
                return Err(Reject::Unsupported { what: "an output that lies over an input" });
            }
            *slot = Global::from_address(buffer.address);
        }
        let count = code.count as u32;
        let geometry = geometry(count, code.slots, self.wide, device.multiprocessors);
        let params = Params {
            code: Global::from_address(buffers.code.address),
            inputs,
            outputs,
            count,
            words: code.instructions,
            slots: code.slots,
            blocks: geometry.grid[0],
        };
        Prepared::new(self.entry, geometry, params, device)
    }
}
