//! Where lanes of a warp meet: barriers, shuffles, votes and matrix operations.

use super::barriers::meet;
use super::lane::{Here, Lane, Source};
use super::matrix;
use super::report::{Fault, Instead, MaskProblem, Meeting};
use crate::device::warp::{ALL, LANES, Vote};

/// What lanes exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exchange {
    /// Nothing; they wait, and see what the others wrote.
    Barrier,
    /// Word 0 of each for the lane that word 1 of another names.
    Shuffle,
    /// Word 0 as a truth value.
    Vote(Vote),
    /// The fragments of a product: four words of A, two of B, four of C.
    Product(Product),
    /// Rows of 8 × 8 matrices, four words each.
    Matrices {
        /// Whether the transposed matrices are wanted.
        transposed: bool,
    },
    /// Nothing, but all must bring the same words: the descriptors of a warpgroup's operands.
    Operands,
}

/// A matrix product of a warp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Product {
    F16,
    BF16,
    TF32,
}

/// The words that a lane brings.
pub(super) type Words = [u32; 10];

/// Lanes of a warp that have come to one place.
#[derive(Debug)]
pub(super) struct WarpMeeting {
    mask: u32,
    exchange: Exchange,
    at: Source,
    /// Lanes that have come.
    arrived: u32,
    /// The first of them, by its number in the group.
    first: usize,
    words: Box<[Words; 32]>,
}

impl WarpMeeting {
    /// Whether `lane` has come.
    pub(super) fn has(&self, lane: u32) -> bool {
        self.arrived >> lane & 1 != 0
    }

    /// Whether `lane` is waited for.
    pub(super) fn expects(&self, lane: u32) -> bool {
        (self.mask & !self.arrived) >> lane & 1 != 0
    }

    /// A lane that waits.
    pub(super) fn first(&self) -> usize {
        self.first
    }

    pub(super) fn kind(&self) -> Meeting {
        self.exchange.meeting()
    }
}

impl Exchange {
    fn meeting(self) -> Meeting {
        match self {
            Self::Barrier => Meeting::WarpBarrier,
            Self::Shuffle => Meeting::Shuffle,
            Self::Vote(_) => Meeting::Vote,
            Self::Product(_) | Self::Matrices { .. } | Self::Operands => Meeting::Matrix,
        }
    }
}

impl<'a> Here<'a> {
    /// Meets the lanes of `mask`; gives what the exchange has for this lane.
    pub(crate) fn exchange(self, mask: u32, exchange: Exchange, words: Words, at: Source) -> [u32; 4] {
        self.lane.last.set(at);
        let own = self.lane.position.lane;
        let kind = exchange.meeting();
        self.check_mask(mask, kind);
        let mut blocks = self.group.blocks.borrow_mut();
        let warp = &mut blocks[self.lane.member].warps[(self.lane.rank / LANES) as usize];
        let found = warp.iter().position(|meeting| meeting.expects(own));
        let index = match found {
            Some(index) => {
                let meeting = &warp[index];
                if (meeting.mask, meeting.exchange) != (mask, exchange) || meeting.at != at {
                    let other = self.group.lanes[meeting.first].party();
                    let same = meeting.exchange == exchange;
                    let instead = if same { Instead::Elsewhere } else { Instead::Waits(meeting.kind()) };
                    self.fail(Fault::Divergence { kind, other, instead });
                }
                index
            }
            None => {
                let words = Box::new([[0; 10]; 32]);
                let first = self.lane.number;
                warp.push(WarpMeeting { mask, exchange, at, arrived: 0, first, words });
                warp.len() - 1
            }
        };
        let meeting = &mut warp[index];
        meeting.arrived |= 1 << own;
        meeting.words[own as usize] = words;
        if meeting.arrived != mask {
            drop(blocks);
            self.check_left(mask, kind);
            self.wait(kind);
            return self.lane.mailbox.get();
        }
        let meeting = warp.swap_remove(index);
        drop(blocks);
        self.conclude(&meeting);
        self.lane.mailbox.get()
    }

    fn check_mask(self, mask: u32, kind: Meeting) {
        let threads = self.group.run.geometry.threads();
        let lanes = (threads - self.lane.rank / LANES * LANES).min(LANES);
        let problem = if mask >> self.lane.position.lane & 1 == 0 {
            MaskProblem::CallerMissing
        } else if lanes < LANES && mask >> lanes != 0 {
            MaskProblem::NoSuchLane
        } else if kind == Meeting::Matrix && mask != ALL {
            MaskProblem::NotAll
        } else {
            return;
        };
        self.fail(Fault::Mask { kind, mask, problem });
    }

    /// The lanes of `mask`, which exist.
    fn lanes(self, mask: u32) -> impl Iterator<Item = &'a Lane> + Clone {
        let first = (self.lane.rank / LANES * LANES) as usize;
        let lanes = self.group.lanes_of(self.lane.member)[first..].iter().take(LANES as usize);
        lanes.filter(move |lane| mask >> lane.position.lane & 1 != 0)
    }

    fn check_left(self, mask: u32, kind: Meeting) {
        if let Some(left) = self.lanes(mask).find(|lane| lane.left.get()) {
            self.fail(Fault::Divergence { kind, other: left.party(), instead: Instead::Left });
        }
    }

    /// Gives every lane what is its own, and lets the others go on.
    fn conclude(self, meeting: &WarpMeeting) {
        let words = &meeting.words;
        match meeting.exchange {
            Exchange::Barrier => {
                let lanes: Vec<&Lane> = self.lanes(meeting.mask).collect();
                if self.group.run.options.races {
                    meet(&lanes);
                }
            }
            Exchange::Shuffle => {
                for lane in self.lanes(meeting.mask) {
                    let source = words[lane.position.lane as usize][1];
                    if meeting.mask >> source & 1 == 0 {
                        self.fail_for(lane, Fault::InactiveSource { lane: source });
                    }
                    lane.mailbox.set([words[source as usize][0], 0, 0, 0]);
                }
            }
            Exchange::Vote(vote) => {
                let holds = |lane: &&Lane| words[lane.position.lane as usize][0] != 0;
                let ballot = self
                    .lanes(meeting.mask)
                    .filter(holds)
                    .fold(0, |ballot, lane| ballot | 1 << lane.position.lane);
                let result = match vote {
                    Vote::Ballot => ballot,
                    Vote::Any => u32::from(ballot != 0),
                    Vote::All => u32::from(ballot == meeting.mask),
                };
                self.lanes(meeting.mask).for_each(|lane| lane.mailbox.set([result, 0, 0, 0]));
            }
            Exchange::Product(product) => {
                let results = matrix::multiply(product, words);
                self.lanes(meeting.mask).zip(results).for_each(|(lane, result)| lane.mailbox.set(result));
            }
            Exchange::Operands => {
                for lane in self.lanes(meeting.mask) {
                    if words[lane.position.lane as usize] != words[0] {
                        let what = "lanes of a warpgroup with different operands";
                        self.fail_for(lane, Fault::Misuse { what });
                    }
                }
            }
            Exchange::Matrices { transposed } => {
                let results = matrix::distribute(words, transposed);
                self.lanes(meeting.mask).zip(results).for_each(|(lane, result)| lane.mailbox.set(result));
            }
        }
        self.group.changed();
        let others = self.lanes(meeting.mask).map(|lane| lane.number).filter(|&n| n != self.lane.number);
        self.group.wake(others);
    }
}
