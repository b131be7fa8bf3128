//! Barriers of arrivals and bytes (mbarrier).

use super::access::Touch;
use super::clock::Knowledge;
use super::group::{Block, Group};
use super::lane::{Here, Source};
use super::report::{Access, Fault, Meeting};
use super::shadow::Kind;
use super::shared::{ClusterAddress, Content, SharedAddress};

/// The state of one such barrier.
#[derive(Debug)]
pub(super) struct Phases {
    count: u32,
    /// Arrivals that the phase still expects.
    pending: u32,
    /// Bytes that were announced and have not come.
    bytes: i64,
    phase: u64,
    knowledge: Knowledge,
    completed: Knowledge,
    waiters: Vec<(usize, u32)>,
}

/// Why an arrival is none.
const TOO_MANY: &str = "more arrivals than a phase of the mbarrier expects";
const UNKNOWN: &str = "an mbarrier that was not initialised";

impl Phases {
    fn is_complete(&self, parity: u32) -> bool {
        (self.phase & 1) as u32 != parity & 1
    }

    /// Counts an arrival; whether one was expected.
    fn arrive(&mut self, knowledge: &Knowledge) -> bool {
        self.knowledge.join(knowledge);
        match self.pending.checked_sub(1) {
            Some(pending) => self.pending = pending,
            None => return false,
        }
        true
    }

    /// Begins the next phase if this one is complete; gives the lanes that have waited for it.
    fn advance(&mut self) -> Vec<usize> {
        if self.pending > 0 || self.bytes != 0 {
            return Vec::new();
        }
        self.phase += 1;
        self.pending = self.count;
        self.completed = std::mem::take(&mut self.knowledge);
        let phase = self.phase;
        let (done, waiting) = std::mem::take(&mut self.waiters)
            .into_iter()
            .partition(|&(_, parity)| (phase & 1) as u32 != parity & 1);
        self.waiters = waiting;
        let done: Vec<(usize, u32)> = done;
        done.into_iter().map(|(lane, _)| lane).collect()
    }
}

/// Counts bytes that have come to a barrier of `member`, and who may go on for it. False: there is no such barrier.
pub(super) fn count_bytes(
    group: &Group,
    block: &mut Block,
    offset: u32,
    bytes: u32,
    knowledge: &Knowledge,
) -> bool {
    let Some(phases) = block.phases.get_mut(&offset) else { return false };
    phases.bytes -= i64::from(bytes);
    phases.knowledge.join(knowledge);
    release(group, phases);
    true
}

fn release(group: &Group, phases: &mut Phases) {
    let woken = phases.advance();
    for &lane in &woken {
        group.lanes[lane].acquire(&phases.completed);
    }
    group.changed();
    group.wake(woken);
}

impl Here<'_> {
    pub(crate) fn initialise_arrivals(self, address: SharedAddress, count: u32, at: Source) {
        self.lane.last.set(at);
        if count == 0 {
            self.fail(Fault::Misuse { what: "an mbarrier that expects no arrivals" });
        }
        let member = self.lane.member;
        let mut blocks = self.group.blocks.borrow_mut();
        let block = &mut blocks[member];
        self.check_word(block, address);
        self.record_shared(block, address, Touch { size: 8, kind: Kind::Write, access: Access::Write, at });
        block.shared.content[address.offset as usize..][..8].fill(Content::Arrivals);
        let phases = Phases {
            count,
            pending: count,
            bytes: 0,
            phase: 0,
            knowledge: Knowledge::default(),
            completed: Knowledge::default(),
            waiters: Vec::new(),
        };
        block.phases.insert(address.offset, phases);
    }

    fn check_word(self, block: &Block, address: SharedAddress) {
        let place = || super::shared::place(block, address);
        let end = address.offset.saturating_add(8);
        if address.offset < address.start || end > address.end || end as usize > block.shared.bytes.len() {
            self.fail(Fault::OutOfBounds { access: Access::Atomic, size: 8, place: place() });
        }
        if !address.offset.is_multiple_of(8) {
            self.fail(Fault::Misaligned { access: Access::Atomic, size: 8, place: place() });
        }
    }

    /// Carries out `go` on a barrier of the group's block `member`.
    fn with_phases<R>(
        self,
        member: usize,
        address: SharedAddress,
        at: Source,
        go: impl FnOnce(&mut Phases) -> R,
    ) -> R {
        self.lane.last.set(at);
        let mut blocks = self.group.blocks.borrow_mut();
        let block = &mut blocks[member];
        self.check_word(block, address);
        if !block.phases.contains_key(&address.offset) {
            self.fail(Fault::Misuse { what: UNKNOWN });
        }
        // Whoever uses the barrier must know that it was initialised.
        self.record_shared(
            block,
            address,
            Touch { size: 8, kind: Kind::AtomicRead, access: Access::Atomic, at },
        );
        match block.phases.get_mut(&address.offset) {
            Some(phases) => go(phases),
            None => self.fail(Fault::Misuse { what: UNKNOWN }),
        }
    }

    pub(crate) fn arrive(self, address: SharedAddress, bytes: u32, at: Source) {
        self.arrive_at(self.lane.member, address, bytes, at);
    }

    pub(crate) fn arrive_in_cluster(self, address: ClusterAddress, at: Source) {
        self.lane.last.set(at);
        self.arrive_at(self.remote(address.rank), address.shared, 0, at);
    }

    fn arrive_at(self, member: usize, address: SharedAddress, bytes: u32, at: Source) {
        let expected = self.with_phases(member, address, at, |phases| {
            phases.bytes += i64::from(bytes);
            let expected = phases.arrive(&self.lane.release());
            release(self.group, phases);
            expected
        });
        if !expected {
            self.fail(Fault::Misuse { what: TOO_MANY });
        }
    }

    pub(crate) fn test_arrivals(self, address: SharedAddress, parity: u32, at: Source) -> bool {
        self.lane.last.set(at);
        self.poll();
        self.with_phases(self.lane.member, address, at, |phases| {
            let complete = phases.is_complete(parity);
            if complete {
                self.lane.acquire(&phases.completed);
            }
            complete
        })
    }

    pub(crate) fn wait_arrivals(self, address: SharedAddress, parity: u32, at: Source) {
        let number = self.lane.number;
        let complete = self.with_phases(self.lane.member, address, at, |phases| {
            if phases.is_complete(parity) {
                self.lane.acquire(&phases.completed);
                return true;
            }
            phases.waiters.push((number, parity));
            false
        });
        if !complete {
            self.wait(Meeting::Arrivals);
        }
    }

    /// Whether a copy can count its bytes at a barrier.
    pub(super) fn check_arrivals(self, member: usize, address: SharedAddress, at: Source) {
        self.with_phases(member, address, at, |_| ());
    }
}
