//! A launch while it runs: what all its groups share.

use super::Options;
use super::clock::Knowledge;
use super::lane::Source;
use super::memory::{Allocation, Memory};
use super::shadow::{Epoch, PLACES, Readers, Shadow};
use crate::device::Scope;
use crate::launch::Geometry;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// What all groups of a launch share.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) kernel: &'static str,
    pub(super) geometry: Geometry,
    pub(super) options: Options,
    pub(super) memory: Arc<Memory>,
    /// Allocations that were used, by their number.
    pub(super) allocations: RefCell<Vec<Option<Arc<Allocation>>>>,
    pub(super) races: RefCell<Races>,
}

/// What the race detector remembers of a launch.
#[derive(Debug, Default)]
pub(super) struct Races {
    pub(super) readers: Readers,
    /// Of allocations, by their number.
    pub(super) shadows: Vec<Shadow>,
    /// What the last write to a word has released.
    pub(super) released: HashMap<Word, Released>,
    places: Places,
}

/// A word that atomic operations use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Word {
    Global(u64),
    Shared { block: u32, offset: u32 },
}

/// What a release has published, and to whom.
#[derive(Clone, Debug)]
pub(super) struct Released {
    pub(super) knowledge: Knowledge,
    pub(super) scope: Scope,
    pub(super) block: u32,
}

impl Run {
    pub(super) fn new(
        kernel: &'static str,
        geometry: Geometry,
        options: Options,
        memory: &Arc<Memory>,
    ) -> Self {
        Self {
            kernel,
            geometry,
            options,
            memory: Arc::clone(memory),
            allocations: RefCell::default(),
            races: RefCell::default(),
        }
    }

    /// The thread of an access that was remembered.
    pub(super) fn thread_of(&self, epoch: Epoch) -> ([u32; 3], [u32; 3]) {
        let ([gx, gy, _], [x, y, _]) = (self.geometry.grid, self.geometry.block);
        let lane = u32::from(epoch.lane);
        (
            [epoch.block % gx, epoch.block / gx % gy, epoch.block / gx / gy],
            [lane % x, lane / x % y, lane / x / y],
        )
    }
}

impl Races {
    /// A short number for a place in the source.
    pub(super) fn place(&mut self, source: Source) -> u16 {
        self.places.number(source)
    }

    /// The place of that number.
    pub(super) fn source(&self, epoch: Epoch) -> Source {
        self.places.sources[epoch.location()]
    }
}

/// Places in the source by number; the last one is shared by all that come too late.
#[derive(Debug, Default)]
struct Places {
    sources: Vec<Source>,
    numbers: HashMap<*const std::panic::Location<'static>, u16>,
    last: Option<(*const std::panic::Location<'static>, u16)>,
}

impl Places {
    fn number(&mut self, source: Source) -> u16 {
        let key = std::ptr::from_ref(source);
        if let Some((last, number)) = self.last
            && last == key
        {
            return number;
        }
        let sources = &mut self.sources;
        let number = *self.numbers.entry(key).or_insert_with(|| {
            if sources.len() < PLACES {
                sources.push(source);
            }
            (sources.len() - 1) as u16
        });
        self.last = Some((key, number));
        number
    }
}
