//! Barriers of the block, of some of its lanes, of the cluster and of the grid.

use super::access::Touch;
use super::clock::{BlockClocks, Knowledge, View};
use super::lane::{Here, Lane, Source};
use super::report::{Access, Fault, Instead, Meeting};
use super::shadow::Kind;

/// A numbered barrier while some lanes have come.
#[derive(Debug, Default)]
pub(super) struct NamedBarrier {
    threads: u32,
    arrived: u32,
    knowledge: Knowledge,
    waiters: Vec<usize>,
}

/// The barrier of a cluster, whose two halves are apart.
#[derive(Debug, Default)]
pub(super) struct ClusterBarrier {
    /// Phases that are complete.
    phase: u64,
    arrived: usize,
    /// Clocks of the lanes that have arrived, block by block.
    clocks: Vec<Vec<u32>>,
    /// What they knew of other blocks.
    rest: Knowledge,
    completed: Knowledge,
    waiters: Vec<usize>,
}

impl ClusterBarrier {
    /// Whether all blocks are known to have started.
    pub(super) fn has_met(&self) -> bool {
        self.phase > 0
    }
}

impl Here<'_> {
    pub(crate) fn sync_block(self, at: Source) {
        self.lane.last.set(at);
        let group = self.group;
        let mut blocks = group.blocks.borrow_mut();
        let block = &mut blocks[self.lane.member];
        let kind = Meeting::BlockBarrier;
        if let Some(other) = block.first_left {
            self.fail(Fault::Divergence { kind, other, instead: Instead::Left });
        }
        match (block.arrived.first(), block.arrived_at) {
            (Some(&first), Some(place)) if place != at => {
                let other = group.lanes[first].party();
                self.fail(Fault::Divergence { kind, other, instead: Instead::Elsewhere });
            }
            _ => block.arrived_at = Some(at),
        }
        block.arrived.push(self.lane.number);
        if block.arrived.len() < group.run.geometry.threads() as usize {
            drop(blocks);
            self.wait(kind);
            return;
        }
        let arrived = std::mem::take(&mut block.arrived);
        block.arrived_at = None;
        drop(blocks);
        let lanes = group.lanes_of(self.lane.member);
        let latest = lanes.iter().map(|lane| lane.clock.get()).max().unwrap_or(0);
        let met = {
            let views: Vec<_> = lanes.iter().map(|lane| lane.view.borrow()).collect();
            View::meet_block(views.iter().map(|view| &**view), latest)
        };
        for lane in lanes {
            lane.view.replace(met.clone().unwrap_or_else(|| lane.view.borrow().clone()));
            lane.clock.set(latest + 1);
        }
        group.changed();
        group.wake(arrived.into_iter().filter(|&number| number != self.lane.number));
    }

    pub(crate) fn sync_named(self, id: u32, threads: u32, at: Source) {
        if !self.come(id, threads, true, at) {
            self.wait(Meeting::NamedBarrier(id));
        }
    }

    pub(crate) fn arrive_named(self, id: u32, threads: u32, at: Source) {
        self.come(id, threads, false, at);
    }

    /// Counts the lane at a numbered barrier; whether that completes it.
    fn come(self, id: u32, threads: u32, waits: bool, at: Source) -> bool {
        self.lane.last.set(at);
        if !(1..16).contains(&id) || threads == 0 || !threads.is_multiple_of(32) {
            self.fail(Fault::Misuse {
                what: "barriers have numbers from 1 to 15 and multiples of 32 threads",
            });
        }
        let mut blocks = self.group.blocks.borrow_mut();
        let barrier = blocks[self.lane.member].named.entry(id).or_default();
        if barrier.arrived > 0 && barrier.threads != threads {
            self.fail(Fault::Misuse { what: "threads expect different numbers of threads at one barrier" });
        }
        barrier.threads = threads;
        barrier.arrived += 1;
        barrier.knowledge.join(&self.lane.release());
        if barrier.arrived < threads {
            if waits {
                barrier.waiters.push(self.lane.number);
            }
            return false;
        }
        let complete = std::mem::take(barrier);
        drop(blocks);
        for &waiter in &complete.waiters {
            self.group.lanes[waiter].acquire(&complete.knowledge);
        }
        if waits {
            self.lane.acquire(&complete.knowledge);
        }
        self.group.changed();
        self.group.wake(complete.waiters);
        true
    }

    pub(crate) fn arrive_cluster(self, at: Source) {
        self.lane.last.set(at);
        let group = self.group;
        let size = self.lane.position.cluster_size as usize;
        let threads = group.run.geometry.threads() as usize;
        let mut clusters = group.clusters.borrow_mut();
        let barrier = &mut clusters[self.lane.member / size];
        if self.lane.cluster_phase.replace(Some(barrier.phase)).is_some() {
            self.fail(Fault::Misuse { what: "arrived twice at the cluster's barrier without waiting" });
        }
        barrier.clocks.resize(size, vec![0; threads + 1]);
        let clock = self.lane.clock.replace(self.lane.clock.get() + 1);
        let view = self.lane.view.borrow();
        let own = &mut barrier.clocks[self.lane.member % size];
        view.raise(own);
        own[self.lane.rank as usize] = clock;
        barrier.rest.join(view.rest());
        barrier.arrived += 1;
        if barrier.arrived < size * threads {
            return;
        }
        let mut completed = std::mem::take(&mut barrier.rest);
        let first = view.block() - (self.lane.member % size) as u32;
        for (block, clocks) in (first..).zip(std::mem::take(&mut barrier.clocks)) {
            completed.join(&Knowledge::of_block(block, BlockClocks::each(clocks)));
        }
        barrier.completed = completed;
        barrier.arrived = 0;
        barrier.phase += 1;
        group.changed();
        group.wake(std::mem::take(&mut barrier.waiters));
    }

    pub(crate) fn wait_cluster(self, at: Source) {
        self.lane.last.set(at);
        let group = self.group;
        let number = self.lane.member / self.lane.position.cluster_size as usize;
        let Some(phase) = self.lane.cluster_phase.take() else {
            self.fail(Fault::Misuse { what: "waits at the cluster's barrier without having arrived" });
        };
        if group.clusters.borrow()[number].phase == phase {
            group.clusters.borrow_mut()[number].waiters.push(self.lane.number);
            self.wait(Meeting::ClusterBarrier);
        }
        self.lane.acquire(&group.clusters.borrow()[number].completed);
    }

    pub(crate) fn sync_grid(self, state: u64, at: Source) {
        self.lane.last.set(at);
        let group = self.group;
        if !group.run.geometry.cooperative {
            self.fail(Fault::Misuse { what: "the grid's barrier in a launch that is not cooperative" });
        }
        if !matches!(
            self.global(
                state,
                Touch { size: 4, kind: Kind::AtomicRead, access: Access::Atomic, at },
                |a, offset| a.load(offset, 4)
            ),
            0
        ) {
            self.fail(Fault::Misuse { what: "the word of the grid's barrier is not zero" });
        }
        let mut arrived = group.grid.borrow_mut();
        arrived.push(self.lane.number);
        if arrived.len() < group.lanes.len() {
            drop(arrived);
            self.wait(Meeting::GridBarrier);
            return;
        }
        let arrived = std::mem::take(&mut *arrived);
        let latest = group.lanes.iter().map(|lane| lane.clock.get()).max().unwrap_or(0);
        for lane in &group.lanes {
            lane.view.borrow_mut().meet_grid(latest);
            lane.clock.set(latest + 1);
        }
        group.changed();
        group.wake(arrived.into_iter().filter(|&number| number != self.lane.number));
    }
}

/// Makes what `lanes` of one block did known to each other.
pub(super) fn meet(lanes: &[&Lane]) {
    let met = {
        let views: Vec<_> = lanes.iter().map(|lane| lane.view.borrow()).collect();
        let each = lanes.iter().zip(&views).map(|(lane, view)| (lane.rank as u16, lane.clock.get(), &**view));
        View::meet(each)
    };
    let Some((met, latest)) = met else { return };
    for lane in lanes {
        lane.view.replace(met.clone());
        lane.clock.set(latest + 1);
    }
}
