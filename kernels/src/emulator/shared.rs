//! Shared memory of blocks, also from other blocks of the cluster.

use super::access::{Touch, read_kind, write_kind};
use super::group::Block;
use super::lane::{Here, Source};
use super::report::{Access, Fault, Place};
use super::run::Word;
use super::shadow::{Kind, Shadow};
use crate::device::atomic::{Atomic, AtomicInteger, Operation};
use crate::device::{Order, Plain, Scope};

/// An address in a block's shared memory, with the array that it was made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedAddress {
    /// Bytes from the start of the block's shared memory.
    pub(crate) offset: u32,
    /// Where the array starts.
    pub(crate) start: u32,
    /// Where it ends.
    pub(crate) end: u32,
}

/// The same in the block of this rank of the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClusterAddress {
    /// The block in the cluster.
    pub(crate) rank: u32,
    /// The address in it.
    pub(crate) shared: SharedAddress,
}

/// What is known of a byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    Unwritten,
    Written,
    /// A copy will write it.
    InFlight,
    /// Part of a barrier of arrivals and bytes.
    Arrivals,
}

/// The shared memory of one block.
#[derive(Debug)]
pub(super) struct SharedMemory {
    pub(super) bytes: Vec<u8>,
    pub(super) content: Vec<Content>,
    pub(super) shadow: Shadow,
}

impl SharedMemory {
    pub(super) fn new(bytes: u32) -> Self {
        Self {
            bytes: vec![0x7f; bytes as usize],
            content: vec![Content::Unwritten; bytes as usize],
            shadow: Shadow::default(),
        }
    }

    pub(super) fn load(&self, offset: u32, size: u32) -> u128 {
        let mut value = [0; 16];
        value[..size as usize].copy_from_slice(&self.bytes[offset as usize..(offset + size) as usize]);
        u128::from_le_bytes(value)
    }

    pub(super) fn store(&mut self, offset: u32, size: u32, bits: u128) {
        let range = offset as usize..(offset + size) as usize;
        self.bytes[range.clone()].copy_from_slice(&bits.to_le_bytes()[..size as usize]);
        self.content[range].fill(Content::Written);
    }
}

/// Words for an address in a block's shared memory.
pub(super) fn place(block: &Block, address: SharedAddress) -> Place {
    Place::Shared {
        block: block.index,
        offset: address.offset,
        array: (address.start, address.end),
        bytes: block.shared.bytes.len() as u32,
    }
}

impl Here<'_> {
    /// The number in the group of the cluster's block of this rank.
    pub(super) fn member(self, rank: u32) -> usize {
        let position = self.lane.position;
        if rank >= position.cluster_size {
            self.fail(Fault::Misuse { what: "the cluster has no block of this rank" });
        }
        self.lane.member - position.cluster_rank as usize + rank as usize
    }

    /// The block that a cluster address lies in; it must have started and not have ended.
    pub(super) fn remote(self, rank: u32) -> usize {
        let member = self.member(rank);
        if member == self.lane.member {
            return member;
        }
        let blocks = self.lane.position.cluster_size as usize;
        if !self.group.clusters.borrow()[self.lane.member / blocks].has_met() {
            let what = "shared memory of another block before the cluster has synchronised";
            self.fail(Fault::Misuse { what });
        }
        if self.group.blocks.borrow()[member].left == self.group.run.geometry.threads() {
            self.fail(Fault::Misuse { what: "shared memory of a block that has ended" });
        }
        member
    }

    pub(crate) fn load_shared<T: Plain>(self, address: SharedAddress, order: Order, at: Source) -> T {
        if order != Order::Weak {
            self.lane.last.set(at);
            self.poll();
        }
        self.load_member(self.lane.member, address, order, at)
    }

    pub(crate) fn store_shared<T: Plain>(self, address: SharedAddress, value: T, order: Order, at: Source) {
        self.store_member(self.lane.member, address, value, order, at);
    }

    pub(crate) fn load_cluster<T: Plain>(self, address: ClusterAddress, order: Order, at: Source) -> T {
        self.lane.last.set(at);
        self.load_member(self.remote(address.rank), address.shared, order, at)
    }

    pub(crate) fn store_cluster<T: Plain>(self, address: ClusterAddress, value: T, order: Order, at: Source) {
        self.lane.last.set(at);
        self.store_member(self.remote(address.rank), address.shared, value, order, at);
    }

    /// 16 bytes, as `ldmatrix` reads them.
    pub(crate) fn load_row(self, address: SharedAddress, at: Source) -> u128 {
        self.shared(
            self.lane.member,
            address,
            Touch { size: 16, kind: Kind::Read, access: Access::Read, at },
            |block| block.shared.load(address.offset, 16),
        )
    }

    fn load_member<T: Plain>(self, member: usize, address: SharedAddress, order: Order, at: Source) -> T {
        let size = size_of::<T>() as u32;
        let bits = self.shared(
            member,
            address,
            Touch { size, kind: read_kind(order), access: Access::Read, at },
            |block| block.shared.load(address.offset, size),
        );
        if order != Order::Weak {
            self.order_read(self.word(member, address), order == Order::Acquire, Scope::Cluster);
        }
        T::from_bits(bits)
    }

    fn store_member<T: Plain>(
        self,
        member: usize,
        address: SharedAddress,
        value: T,
        order: Order,
        at: Source,
    ) {
        let size = size_of::<T>() as u32;
        self.shared(
            member,
            address,
            Touch { size, kind: write_kind(order), access: Access::Write, at },
            |block| {
                block.shared.store(address.offset, size, value.to_bits());
            },
        );
        self.order_write(self.word(member, address), order, Scope::Cluster, false);
        self.group.changed();
    }

    pub(crate) fn fetch_shared<T: Atomic>(
        self,
        address: SharedAddress,
        operation: Operation,
        operand: T,
        order: Order,
        at: Source,
    ) -> T {
        let change = |old| T::apply(operation, old, operand);
        self.exchange_shared(self.lane.member, address, change, order, at)
    }

    pub(crate) fn fetch_cluster<T: Atomic>(
        self,
        address: ClusterAddress,
        operation: Operation,
        operand: T,
        order: Order,
        at: Source,
    ) -> T {
        self.lane.last.set(at);
        let change = |old| T::apply(operation, old, operand);
        self.exchange_shared(self.remote(address.rank), address.shared, change, order, at)
    }

    pub(crate) fn compare_exchange_shared<T: AtomicInteger>(
        self,
        address: SharedAddress,
        (current, value): (T, T),
        order: Order,
        at: Source,
    ) -> T {
        self.lane.last.set(at);
        self.poll();
        let change = |old| if old == current { value } else { old };
        self.exchange_shared(self.lane.member, address, change, order, at)
    }

    fn exchange_shared<T: Plain>(
        self,
        member: usize,
        address: SharedAddress,
        change: impl Fn(T) -> T,
        order: Order,
        at: Source,
    ) -> T {
        let size = size_of::<T>() as u32;
        let old = self.shared(
            member,
            address,
            Touch { size, kind: Kind::AtomicWrite, access: Access::Atomic, at },
            |block| {
                let old = T::from_bits(block.shared.load(address.offset, size));
                block.shared.store(address.offset, size, change(old).to_bits());
                old
            },
        );
        let word = self.word(member, address);
        self.order_read(word, matches!(order, Order::Acquire | Order::AcquireRelease), Scope::Cluster);
        self.order_write(word, order, Scope::Cluster, true);
        self.group.changed();
        old
    }

    fn word(self, member: usize, address: SharedAddress) -> Word {
        // Blocks of a group have consecutive numbers.
        let own = self.lane.view.borrow().block();
        Word::Shared { block: own + member as u32 - self.lane.member as u32, offset: address.offset }
    }

    /// Checks an access to the shared memory of a block of the group, and lets `go` carry it out.
    pub(super) fn shared<R>(
        self,
        member: usize,
        address: SharedAddress,
        touch: Touch,
        go: impl FnOnce(&mut Block) -> R,
    ) -> R {
        let Touch { size, access, at, .. } = touch;
        self.lane.last.set(at);
        let mut blocks = self.group.blocks.borrow_mut();
        let block = &mut blocks[member];
        let offset = address.offset;
        let end = u64::from(offset) + u64::from(size);
        if offset < address.start || end > u64::from(address.end) || end > block.shared.bytes.len() as u64 {
            self.fail(Fault::OutOfBounds { access, size, place: place(block, address) });
        }
        if !offset.is_multiple_of(size) {
            self.fail(Fault::Misaligned { access, size, place: place(block, address) });
        }
        let content = &block.shared.content[offset as usize..(offset + size) as usize];
        if content.contains(&Content::InFlight) {
            self.fail(Fault::InFlight { access, size, place: place(block, address) });
        }
        if content.contains(&Content::Arrivals) {
            self.fail(Fault::Misuse { what: "an ordinary access to the word of an mbarrier" });
        }
        if access != Access::Write && content.contains(&Content::Unwritten) {
            self.fail(Fault::Unwritten { size, place: place(block, address) });
        }
        self.record_shared(block, address, touch);
        go(block)
    }

    /// Records an access to a block's shared memory, whatever it holds.
    pub(super) fn record_shared(self, block: &mut Block, address: SharedAddress, touch: Touch) {
        let Touch { size, kind, access, at } = touch;
        let run = &self.group.run;
        if !run.options.races {
            return;
        }
        let mut races = run.races.borrow_mut();
        let number = races.place(at);
        let (readers, shadow) = (&mut races.readers, &mut block.shared.shadow);
        let result = self.record(readers, shadow, address.offset as usize, size, kind, number);
        drop(races);
        if let Err(conflict) = result {
            self.fail_race(&conflict, size, access, place(block, address));
        }
    }
}
