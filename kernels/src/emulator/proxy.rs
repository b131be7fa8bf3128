//! The two proxies that shared memory is reached through: ordinary accesses and `cp.async` go through the generic one, what
//! bulk stores and `wgmma` read through the asynchronous one.
//!
//! An asynchronous read sees what was written through the generic proxy only where a `fence.proxy.async` stands between the
//! two: the write happened before the fence, and the fence before the read, whichever thread has made it. A lane keeps its
//! fences with what it knew at each, and counts its clock on, so that what it writes behind one is later.

use super::clock::View;
use super::lane::{Here, Lane, Source};
use super::report::{Fault, Party};
use super::shadow::Epoch;
use super::shared::{SharedAddress, place};
use std::cell::RefCell;

/// The fences of a lane, oldest first: its clock at each, and what it knew.
#[derive(Debug, Default)]
pub(super) struct AsyncFences(RefCell<Vec<(u32, View)>>);

impl AsyncFences {
    /// Whether a fence of `lane`, whose they are, stands between `write` and what a lane does that has `view` and is `own`.
    fn stand_between(&self, write: Epoch, lane: &Lane, own: &Lane, view: &View) -> bool {
        let fences = self.0.borrow();
        let known =
            |clock: u32| lane.number == own.number || view.knows(block_of(lane), rank_of(lane), clock);
        if (block_of(lane), rank_of(lane)) == (write.block, write.lane) {
            // The first one behind the write is known before any other.
            let first = fences.partition_point(|(clock, _)| *clock < write.clock);
            return fences.get(first).is_some_and(|(clock, _)| known(*clock));
        }
        let knew = |at_fence: &View| at_fence.knows(write.block, write.lane, write.clock);
        fences.iter().rev().any(|(clock, at_fence)| knew(at_fence) && known(*clock))
    }
}

/// The number of a lane's block in the grid, and its own in the block.
fn block_of(lane: &Lane) -> u32 {
    lane.view.borrow().block()
}

fn rank_of(lane: &Lane) -> u16 {
    lane.rank as u16
}

impl Here<'_> {
    pub(crate) fn fence_async(self) {
        if self.group.run.options.races {
            let clock = self.lane.clock.replace(self.lane.clock.get() + 1);
            self.lane.async_fences.0.borrow_mut().push((clock, self.lane.view.borrow().clone()));
        }
    }

    /// 16 bytes of the own block, read through the asynchronous proxy.
    pub(super) fn load_row_async(self, address: SharedAddress, at: Source) -> u128 {
        let bits = self.load_row(address, at);
        if self.group.run.options.races {
            self.check_fenced(address);
        }
        bits
    }

    fn check_fenced(self, address: SharedAddress) {
        let blocks = self.group.blocks.borrow();
        let block = &blocks[self.lane.member];
        let mut writes: Vec<Epoch> = Vec::new();
        block.shared.shadow.writes(address.offset as usize, 16, |write| {
            // Copies beside the lanes, of a number behind theirs, write through the asynchronous proxy, too.
            if u32::from(write.lane) < self.group.run.geometry.threads() && writes.last() != Some(&write) {
                writes.push(write);
            }
        });
        let view = self.lane.view.borrow();
        for write in writes {
            let between = |lane: &Lane| lane.async_fences.stand_between(write, lane, self.lane, &view);
            // Who wrote and who reads are asked first: nearly always it is one of these two.
            let member = self.lane.member + write.block as usize - block.number as usize;
            let writer = &self.group.lanes_of(member)[usize::from(write.lane)];
            if !between(writer) && !between(self.lane) && !self.group.lanes.iter().any(between) {
                let (of, thread) = self.group.run.thread_of(write);
                let location = self.group.run.races.borrow().source(write);
                let other = Party { block: of, thread, location };
                self.fail(Fault::Unfenced { other, place: place(block, address) });
            }
        }
    }
}
