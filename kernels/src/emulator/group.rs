//! A group: the blocks that live at the same time and can wait for each other, which is a block, a cluster or, in a
//! cooperative launch, the grid.

use super::arrivals::Phases;
use super::barriers::{ClusterBarrier, NamedBarrier};
use super::clock::View;
use super::lane::{Lane, Position, Source};
use super::report::{Party, Report};
use super::run::Run;
use super::shared::SharedMemory;
use super::transfers::Transfer;
use super::warp::WarpMeeting;
use crate::device::warp::LANES;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;

/// Blocks that live at the same time.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) run: Rc<Run>,
    pub(super) lanes: Vec<Lane>,
    pub(super) blocks: RefCell<Vec<Block>>,
    /// Barriers of the clusters in the group.
    pub(super) clusters: RefCell<Vec<ClusterBarrier>>,
    /// Lanes that have come to the grid's barrier.
    pub(super) grid: RefCell<Vec<usize>>,
    /// Lanes that can go on.
    pub(super) ready: RefCell<VecDeque<usize>>,
    /// Copies that have not arrived.
    pub(super) transfers: RefCell<VecDeque<Transfer>>,
    pub(super) fault: RefCell<Option<Report>>,
    /// Counts what may end another lane's polling.
    pub(super) changes: Cell<u64>,
}

/// What the lanes of a block share.
#[derive(Debug)]
pub(super) struct Block {
    /// In the grid.
    pub(super) number: u32,
    pub(super) index: [u32; 3],
    pub(super) shared: SharedMemory,
    /// Lanes that have come to the block's barrier, and where that is.
    pub(super) arrived: Vec<usize>,
    pub(super) arrived_at: Option<Source>,
    pub(super) named: HashMap<u32, NamedBarrier>,
    pub(super) warps: Vec<Vec<WarpMeeting>>,
    /// Barriers of arrivals and bytes, by their place in shared memory.
    pub(super) phases: HashMap<u32, Phases>,
    /// Lanes that have left the kernel, and the first of them.
    pub(super) left: u32,
    pub(super) first_left: Option<Party>,
    /// The clock of copies that run beside the lanes.
    pub(super) copy_clock: u32,
}

impl Group {
    /// The blocks of these numbers.
    pub(super) fn new(run: &Rc<Run>, blocks: Range<u64>) -> Self {
        let geometry = run.geometry;
        let threads = geometry.threads();
        let mut lanes = Vec::new();
        let mut members = Vec::new();
        for (member, number) in blocks.clone().enumerate() {
            let number = number as u32;
            let [gx, gy, _] = geometry.grid;
            let index = [number % gx, number / gx % gy, number / gx / gy];
            // One more than the block has lanes: copies that run beside them have a clock of their own.
            let view = View::new(number, threads as usize + 1);
            for rank in 0..threads {
                let [x, y, _] = geometry.block;
                let position = Position {
                    thread: [rank % x, rank / x % y, rank / x / y],
                    block: index,
                    block_size: geometry.block,
                    grid_size: geometry.grid,
                    lane: rank % LANES,
                    cluster_rank: index[0] % geometry.cluster,
                    cluster_size: geometry.cluster,
                    cluster_index: number / geometry.cluster,
                };
                lanes.push(Lane::new(position, lanes.len(), member, rank, view.clone()));
            }
            members.push(Block {
                number,
                index,
                shared: SharedMemory::new(geometry.shared_bytes),
                arrived: Vec::new(),
                arrived_at: None,
                named: HashMap::new(),
                warps: (0..threads.div_ceil(LANES)).map(|_| Vec::new()).collect(),
                phases: HashMap::new(),
                left: 0,
                first_left: None,
                copy_clock: 1,
            });
        }
        let clusters = members.len().div_ceil(geometry.cluster as usize);
        Self {
            run: Rc::clone(run),
            ready: RefCell::new((0..lanes.len()).collect()),
            lanes,
            blocks: RefCell::new(members),
            clusters: RefCell::new((0..clusters).map(|_| ClusterBarrier::default()).collect()),
            grid: RefCell::default(),
            transfers: RefCell::default(),
            fault: RefCell::default(),
            changes: Cell::new(0),
        }
    }

    /// The lanes of one of its blocks.
    pub(super) fn lanes_of(&self, member: usize) -> &[Lane] {
        let threads = self.run.geometry.threads() as usize;
        &self.lanes[member * threads..(member + 1) * threads]
    }

    /// The lanes of the cluster that a block belongs to.
    pub(super) fn cluster_lanes(&self, member: usize) -> &[Lane] {
        let blocks = self.run.geometry.cluster as usize;
        let (threads, first) = (self.run.geometry.threads() as usize, member / blocks * blocks);
        &self.lanes[first * threads..(first + blocks) * threads]
    }

    /// Lets these lanes go on.
    pub(super) fn wake(&self, lanes: impl IntoIterator<Item = usize>) {
        self.ready.borrow_mut().extend(lanes);
    }

    /// Notes that memory or a barrier has changed.
    pub(super) fn changed(&self) {
        self.changes.set(self.changes.get() + 1);
    }
}
