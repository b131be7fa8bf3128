//! Copies that a lane starts and waits for itself: `cp.async` and bulk stores.

use super::access::Touch;
use super::lane::{Here, Source};
use super::report::{Access, Fault};
use super::shadow::Kind;
use super::shared::{Content, SharedAddress, place};
use super::transfers::unchanged;
use std::collections::VecDeque;

/// What a lane has started and not waited for.
#[derive(Debug, Default)]
pub(super) struct Copies {
    loads: Groups<Load>,
    stores: Groups<Store>,
}

impl Copies {
    /// Whether stores are outstanding.
    pub(super) fn stores_pending(&self) -> bool {
        !self.stores.open.is_empty() || !self.stores.committed.is_empty()
    }
}

/// Copies in groups, oldest first.
#[derive(Debug)]
struct Groups<T> {
    open: Vec<T>,
    committed: VecDeque<Vec<T>>,
}

impl<T> Default for Groups<T> {
    fn default() -> Self {
        Self { open: Vec::new(), committed: VecDeque::new() }
    }
}

impl<T> Groups<T> {
    fn commit(&mut self) {
        self.committed.push_back(std::mem::take(&mut self.open));
    }

    /// Takes all groups but the latest `pending`.
    fn take(&mut self, pending: usize) -> Vec<T> {
        let count = self.committed.len().saturating_sub(pending);
        self.committed.drain(..count).flatten().collect()
    }
}

/// A copy to shared memory.
#[derive(Debug)]
struct Load {
    to: SharedAddress,
    from: u64,
    /// The bytes that are read; the others are zero.
    content: Vec<u8>,
    bytes: u32,
    at: Source,
}

/// A copy to global memory.
#[derive(Debug)]
struct Store {
    to: u64,
    from: SharedAddress,
    content: Vec<u8>,
    at: Source,
}

impl Here<'_> {
    pub(crate) fn start_copy(self, to: SharedAddress, from: u64, bytes: u32, valid: u32, at: Source) {
        self.lane.last.set(at);
        if valid > bytes {
            self.fail(Fault::Misuse { what: "an asynchronous copy reads more bytes than it writes" });
        }
        if valid > 0 && !from.is_multiple_of(bytes.into()) {
            let place = self.group.run.memory.place(from);
            self.fail(Fault::Misaligned { access: Access::Read, size: bytes, place });
        }
        let content = self.read_global_bytes(from, valid, at);
        self.claim_aligned(to, bytes, at);
        self.lane.copies.borrow_mut().loads.open.push(Load { to, from, content, bytes, at });
    }

    fn claim_aligned(self, to: SharedAddress, bytes: u32, at: Source) {
        self.shared(
            self.lane.member,
            to,
            Touch { size: bytes, kind: Kind::Write, access: Access::Write, at },
            |block| {
                block.shared.content[to.offset as usize..][..bytes as usize].fill(Content::InFlight);
            },
        );
    }

    pub(crate) fn commit_copies(self) {
        self.lane.copies.borrow_mut().loads.commit();
    }

    pub(crate) fn wait_copies(self, pending: u32) {
        let arrived = self.lane.copies.borrow_mut().loads.take(pending as usize);
        for Load { to, from, mut content, bytes, at } in arrived {
            if !content.is_empty() && !unchanged(self.group, from, &content) {
                self.lane.last.set(at);
                self.fail(Fault::SourceChanged { place: self.group.run.memory.place(from) });
            }
            content.resize(bytes as usize, 0);
            let mut blocks = self.group.blocks.borrow_mut();
            let block = &mut blocks[self.lane.member];
            let range = to.offset as usize..(to.offset + bytes) as usize;
            block.shared.bytes[range.clone()].copy_from_slice(&content);
            block.shared.content[range].fill(Content::Written);
            self.record_shared(
                block,
                to,
                Touch { size: bytes, kind: Kind::Write, access: Access::Write, at },
            );
        }
        self.group.changed();
    }

    pub(crate) fn bulk_store(self, to: u64, from: SharedAddress, bytes: u32, at: Source) {
        self.lane.last.set(at);
        self.check_bulk(to, from.offset, bytes);
        let mut content = Vec::with_capacity(bytes as usize);
        for piece in 0..bytes / 16 {
            let address = SharedAddress { offset: from.offset + 16 * piece, ..from };
            content.extend_from_slice(&self.load_row_async(address, at).to_le_bytes());
        }
        self.lane.copies.borrow_mut().stores.open.push(Store { to, from, content, at });
    }

    pub(crate) fn bulk_commit(self) {
        self.lane.copies.borrow_mut().stores.commit();
    }

    pub(crate) fn bulk_wait(self, pending: u32) {
        let arrived = self.lane.copies.borrow_mut().stores.take(pending as usize);
        for Store { to, from, content, at } in arrived {
            {
                let blocks = self.group.blocks.borrow();
                let block = &blocks[self.lane.member];
                let now = &block.shared.bytes[from.offset as usize..][..content.len()];
                if now != content {
                    self.lane.last.set(at);
                    self.fail(Fault::SourceChanged { place: place(block, from) });
                }
            }
            self.write_global_bytes(to, &content, at);
        }
    }
}
