//! Copies that run beside the lanes and count their bytes at a barrier: bulk loads and asynchronous stores to other
//! blocks. They arrive as late as they may, when no lane can go on without one, oldest first.

use super::access::Touch;
use super::arrivals::count_bytes;
use super::clock::{Knowledge, View};
use super::group::{Block, Group};
use super::lane::{Here, Source};
use super::report::{Access, Fault, Party, Report};
use super::shadow::{Kind, Who};
use super::shared::{ClusterAddress, Content, SharedAddress, place};
use crate::device::Plain;

/// A copy that has not arrived.
#[derive(Debug)]
pub(super) struct Transfer {
    to: (usize, SharedAddress),
    bytes: Vec<u8>,
    /// Where in global memory they come from.
    from: Option<u64>,
    arrivals: u32,
    knowledge: Knowledge,
    by: Party,
}

impl Here<'_> {
    pub(crate) fn bulk_load(
        self,
        to: SharedAddress,
        from: u64,
        bytes: u32,
        arrivals: SharedAddress,
        at: Source,
    ) {
        self.lane.last.set(at);
        self.check_bulk(from, to.offset, bytes);
        let content = self.read_global_bytes(from, bytes, at);
        self.check_arrivals(self.lane.member, arrivals, at);
        self.start_transfer((self.lane.member, to), content, Some(from), arrivals.offset, at);
    }

    pub(crate) fn store_async<T: Plain>(
        self,
        to: ClusterAddress,
        value: T,
        arrivals: ClusterAddress,
        at: Source,
    ) {
        self.lane.last.set(at);
        let member = self.remote(to.rank);
        if to.rank != arrivals.rank {
            self.fail(Fault::Misuse {
                what: "an asynchronous store and its mbarrier lie in different blocks",
            });
        }
        let size = size_of::<T>();
        if !matches!(size, 4 | 8 | 16) {
            self.fail(Fault::Misuse { what: "an asynchronous store of other than 4, 8 or 16 bytes" });
        }
        if !to.shared.offset.is_multiple_of(size as u32) {
            let place = place(&self.group.blocks.borrow()[member], to.shared);
            self.fail(Fault::Misaligned { access: Access::Write, size: size as u32, place });
        }
        self.check_arrivals(member, arrivals.shared, at);
        let content = value.to_bits().to_le_bytes()[..size].to_vec();
        self.start_transfer((member, to.shared), content, None, arrivals.shared.offset, at);
    }

    /// Checks the ends and the length of a bulk copy.
    pub(super) fn check_bulk(self, global: u64, shared: u32, bytes: u32) {
        if bytes == 0 || !bytes.is_multiple_of(16) || !global.is_multiple_of(16) || !shared.is_multiple_of(16)
        {
            self.fail(Fault::Misuse {
                what: "a bulk copy whose ends or length are no multiples of 16 bytes",
            });
        }
    }

    fn start_transfer(
        self,
        to: (usize, SharedAddress),
        bytes: Vec<u8>,
        from: Option<u64>,
        arrivals: u32,
        at: Source,
    ) {
        self.claim(to.0, to.1, bytes.len() as u32, at);
        let (knowledge, by) = (self.lane.release(), self.lane.party());
        let transfer = Transfer { to, bytes, from, arrivals, knowledge, by };
        self.group.transfers.borrow_mut().push_back(transfer);
    }

    /// Checks the destination of an asynchronous copy and marks it as in flight.
    pub(super) fn claim(self, member: usize, to: SharedAddress, bytes: u32, at: Source) {
        let size = super::access::piece(to.offset.into(), bytes);
        for piece in 0..bytes / size {
            let address = SharedAddress { offset: to.offset + piece * size, ..to };
            self.shared(
                member,
                address,
                Touch { size, kind: Kind::Write, access: Access::Write, at },
                |block| {
                    let range = address.offset as usize..(address.offset + size) as usize;
                    block.shared.content[range].fill(Content::InFlight);
                },
            );
        }
    }
}

/// Lets the oldest copy arrive; false where there is none.
pub(super) fn complete_one(group: &Group) -> Result<bool, Report> {
    let Some(transfer) = group.transfers.borrow_mut().pop_front() else { return Ok(false) };
    let (member, to) = transfer.to;
    let report = |fault| Report::new(group.run.kernel, Some(transfer.by), fault);
    if let Some(from) = transfer.from
        && !unchanged(group, from, &transfer.bytes)
    {
        return Err(report(Fault::SourceChanged { place: group.run.memory.place(from) }));
    }
    let mut blocks = group.blocks.borrow_mut();
    let block = &mut blocks[member];
    let range = to.offset as usize..to.offset as usize + transfer.bytes.len();
    block.shared.bytes[range.clone()].copy_from_slice(&transfer.bytes);
    block.shared.content[range].fill(Content::Written);
    let knowledge = record(group, block, &transfer).map_err(report)?;
    let size = transfer.bytes.len() as u32;
    if !count_bytes(group, block, transfer.arrivals, size, &knowledge) {
        return Err(report(Fault::Misuse { what: "the mbarrier of an asynchronous copy is gone" }));
    }
    Ok(true)
}

/// Records what a copy wrote, as done by a lane of its own; gives what its barrier publishes.
fn record(group: &Group, block: &mut Block, transfer: &Transfer) -> Result<Knowledge, Fault> {
    let lane = group.run.geometry.threads() as u16;
    let clock = block.copy_clock;
    block.copy_clock += 1;
    let mut view = View::new(block.number, usize::from(lane) + 1);
    view.acquire(&transfer.knowledge);
    if group.run.options.races {
        let mut races = group.run.races.borrow_mut();
        let number = races.place(transfer.by.location);
        let who = Who { block: block.number, lane, clock, place: number, view: &view };
        let (to, bytes) = (transfer.to.1, transfer.bytes.len() as u32);
        let size = super::access::piece(to.offset.into(), bytes);
        for piece in 0..bytes / size {
            let offset = (to.offset + piece * size) as usize;
            let shadow = &mut block.shared.shadow;
            if shadow.access(&mut races.readers, &who, offset, size as usize, Kind::Write).is_err() {
                return Err(Fault::InFlight { access: Access::Write, size, place: place(block, to) });
            }
        }
    }
    Ok(view.release(lane, clock))
}

/// Whether global memory still holds these bytes.
pub(super) fn unchanged(group: &Group, from: u64, bytes: &[u8]) -> bool {
    group.run.memory.find(from).is_ok_and(|(allocation, offset)| {
        (offset..).zip(bytes).all(|(at, &byte)| allocation.load(at, 1) as u8 == byte)
    })
}
