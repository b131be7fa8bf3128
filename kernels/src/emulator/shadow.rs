//! Who touched each word last: the race detector.
//!
//! For every 4 bytes the last write is remembered, and every read since that may not have happened before another one
//! (the epochs of FastTrack, Flanagan and Freund, PLDI 2009). Two accesses of different lanes race when one is a write,
//! not both are atomic, and neither happened before the other. Words that are accessed in parts are remembered byte by
//! byte. Of several atomic writes without order only the last is remembered.
//!
//! Sets of readers are shared between words: a set is a chain of accesses, made once, and neighbouring words that the
//! same lanes read in the same order have the same chain.

use super::clock::View;
use std::collections::HashMap;

/// One access.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Epoch {
    pub(super) block: u32,
    /// 0: there was no access.
    pub(super) clock: u32,
    pub(super) lane: u16,
    /// Number of the source location, and in the upper bits how it was accessed.
    pub(super) place: u16,
}

const STRONG: u16 = 1 << 15;
const READ_ONLY: u16 = 1 << 14;
/// The most source locations of a launch.
pub(super) const PLACES: usize = 1 << 14;

impl Epoch {
    fn is_some(self) -> bool {
        self.clock != 0
    }

    fn is_strong(self) -> bool {
        self.place & STRONG != 0
    }

    fn is_read_only(self) -> bool {
        self.place & READ_ONLY != 0
    }

    fn same_lane(self, other: Self) -> bool {
        (self.block, self.lane) == (other.block, other.lane)
    }

    /// The number of its source location.
    pub(super) fn location(self) -> usize {
        usize::from(self.place & !(STRONG | READ_ONLY))
    }
}

/// How memory is accessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Read,
    /// Through the read-only path: races with every write of the launch.
    ReadOnly,
    AtomicRead,
    Write,
    AtomicWrite,
}

impl Kind {
    pub(super) fn is_write(self) -> bool {
        matches!(self, Self::Write | Self::AtomicWrite)
    }

    fn flags(self) -> u16 {
        match self {
            Self::AtomicRead | Self::AtomicWrite => STRONG,
            Self::ReadOnly => READ_ONLY,
            Self::Read | Self::Write => 0,
        }
    }
}

/// An access that races with the present one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conflict {
    pub(super) earlier: Epoch,
    pub(super) was_write: bool,
}

/// The accesses to one word or byte.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    write: Epoch,
    /// The latest read.
    read: Epoch,
    /// The reads before it that may be concurrent with it; for a word that is remembered byte by byte, [`SPLIT`] and
    /// the number of its bytes' cells.
    readers: u32,
}

const SPLIT: u32 = 1 << 31;
const PAGE: usize = 256;

/// The accesses to a piece of memory.
#[derive(Debug, Default)]
pub(super) struct Shadow {
    pages: Vec<Option<Box<[Cell; PAGE]>>>,
    bytes: Vec<[Cell; 4]>,
}

/// Who accesses, and what it knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    pub(super) block: u32,
    pub(super) lane: u16,
    pub(super) clock: u32,
    pub(super) place: u16,
    pub(super) view: &'a View,
}

impl Who<'_> {
    fn knows(&self, epoch: Epoch) -> bool {
        (epoch.block, epoch.lane) == (self.block, self.lane)
            || self.view.knows(epoch.block, epoch.lane, epoch.clock)
    }
}

impl Shadow {
    /// Records an access to `size` bytes, a power of two, at `offset`, a multiple of it; or says what it races with.
    pub(super) fn access(
        &mut self,
        readers: &mut Readers,
        who: &Who<'_>,
        offset: usize,
        size: usize,
        kind: Kind,
    ) -> Result<(), Conflict> {
        let epoch =
            Epoch { block: who.block, clock: who.clock, lane: who.lane, place: who.place | kind.flags() };
        let (first, last) = (offset / 4, (offset + size - 1) / 4);
        let page = last / PAGE;
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        // An aligned access of at most 16 bytes lies in one page.
        let cells = self.pages[page].get_or_insert_with(|| Box::new([Cell::default(); PAGE]));
        for cell in &mut cells[first % PAGE..=last % PAGE] {
            if size >= 4 && cell.readers & SPLIT == 0 {
                cell.record(readers, who, epoch, kind)?;
                continue;
            }
            if cell.readers & SPLIT == 0 {
                self.bytes.push([*cell; 4]);
                cell.readers = SPLIT | (self.bytes.len() - 1) as u32;
            }
            let bytes = &mut self.bytes[(cell.readers & !SPLIT) as usize];
            let range = if size >= 4 { 0..4 } else { offset % 4..offset % 4 + size };
            for byte in &mut bytes[range] {
                byte.record(readers, who, epoch, kind)?;
            }
        }
        Ok(())
    }
}

impl Shadow {
    /// Gives `each` the last write to every word, or byte of a word in parts, of `size` bytes at `offset`, both multiples of
    /// four.
    pub(super) fn writes(&self, offset: usize, size: usize, mut each: impl FnMut(Epoch)) {
        for word in offset / 4..(offset + size) / 4 {
            let Some(Some(cells)) = self.pages.get(word / PAGE) else { continue };
            let cell = &cells[word % PAGE];
            let parts = std::slice::from_ref(cell);
            let split = cell.readers & SPLIT != 0;
            let parts = if split { &self.bytes[(cell.readers & !SPLIT) as usize][..] } else { parts };
            parts.iter().map(|part| part.write).filter(|write| write.is_some()).for_each(&mut each);
        }
    }
}

impl Cell {
    fn record(
        &mut self,
        readers: &mut Readers,
        who: &Who<'_>,
        epoch: Epoch,
        kind: Kind,
    ) -> Result<(), Conflict> {
        let write = self.write;
        let unordered = write.is_some() && !(write.is_strong() && epoch.is_strong()) && !who.knows(write);
        if unordered || (write.is_some() && epoch.is_read_only()) {
            return Err(Conflict { earlier: write, was_write: true });
        }
        if kind.is_write() {
            return self.record_write(readers, who, epoch);
        }
        if self.readers == 0 && (!self.read.is_some() || self.read.same_lane(epoch) || who.knows(self.read)) {
            // An ordinary read stays one even where an atomic one of the same lane follows.
            let again = self.read.is_some() && self.read.same_lane(epoch);
            let weak = again && !self.read.is_strong();
            let sticky = if again { self.read.place & READ_ONLY } else { 0 };
            self.read =
                Epoch { place: epoch.place & if weak { !STRONG } else { u16::MAX } | sticky, ..epoch };
            return Ok(());
        }
        if self.read == epoch {
            return Ok(());
        }
        if !readers.all_known(self.readers, who) || !who.knows(self.read) {
            self.readers = readers.with(self.readers, self.read);
        } else {
            self.readers = 0;
        }
        self.read = epoch;
        Ok(())
    }

    fn record_write(&mut self, readers: &mut Readers, who: &Who<'_>, epoch: Epoch) -> Result<(), Conflict> {
        let mut keep = false;
        let mut check = |read: Epoch| {
            let known = who.knows(read);
            keep |= !known;
            if (known || (read.is_strong() && epoch.is_strong())) && !read.is_read_only() {
                return Ok(());
            }
            Err(Conflict { earlier: read, was_write: false })
        };
        if self.read.is_some() {
            check(self.read)?;
        }
        if self.readers != 0 && !readers.all_known(self.readers, who) {
            readers.each(self.readers, check)?;
        }
        self.write = epoch;
        if !keep {
            self.read = Epoch::default();
            self.readers = 0;
        }
        Ok(())
    }
}

/// A set of readers: one access more than another set.
#[derive(Clone, Copy, Debug)]
struct Node {
    epoch: Epoch,
    /// The set without it; 0 is the empty one.
    rest: u32,
    /// The first set down the chain whose access is of another block.
    other_block: u32,
    /// The block of all accesses, or `None` where there are several.
    block: Option<u32>,
    /// The latest clock of them.
    clock: u32,
    /// Whether any of them was through the read-only path.
    read_only: bool,
}

/// All sets of readers of a launch.
#[derive(Debug, Default)]
pub(super) struct Readers {
    nodes: Vec<Node>,
    made: HashMap<(u32, Epoch), u32>,
}

impl Readers {
    fn node(&self, set: u32) -> &Node {
        &self.nodes[set as usize - 1]
    }

    /// The set with `epoch`, too.
    fn with(&mut self, set: u32, epoch: Epoch) -> u32 {
        if let Some(&made) = self.made.get(&(set, epoch)) {
            return made;
        }
        let made = if self.has(set, epoch) { set } else { self.push(set, epoch) };
        self.made.insert((set, epoch), made);
        made
    }

    fn push(&mut self, rest: u32, epoch: Epoch) -> u32 {
        let alone = Node {
            epoch,
            rest,
            other_block: 0,
            block: Some(epoch.block),
            clock: epoch.clock,
            read_only: epoch.is_read_only(),
        };
        let node = if rest == 0 {
            alone
        } else {
            let below = *self.node(rest);
            Node {
                other_block: if below.epoch.block == epoch.block { below.other_block } else { rest },
                block: below.block.filter(|&b| b == epoch.block),
                clock: below.clock.max(epoch.clock),
                read_only: below.read_only || alone.read_only,
                ..alone
            }
        };
        self.nodes.push(node);
        self.nodes.len() as u32
    }

    fn has(&self, set: u32, epoch: Epoch) -> bool {
        let mut at = set;
        while at != 0 {
            let node = self.node(at);
            if node.epoch.block != epoch.block {
                at = node.other_block;
                continue;
            }
            if node.epoch == epoch {
                return true;
            }
            at = node.rest;
        }
        false
    }

    /// Whether a look at the whole tells that all of them happened before.
    fn all_known(&self, set: u32, who: &Who<'_>) -> bool {
        if set == 0 {
            return true;
        }
        let node = self.node(set);
        !node.read_only && who.view.knows_all(node.block, node.clock)
    }

    fn each(&self, set: u32, mut check: impl FnMut(Epoch) -> Result<(), Conflict>) -> Result<(), Conflict> {
        let mut at = set;
        while at != 0 {
            let node = self.node(at);
            check(node.epoch)?;
            at = node.rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(
        shadow: &mut Shadow,
        readers: &mut Readers,
        lane: u16,
        view: &View,
        at: (usize, usize),
        kind: Kind,
    ) -> bool {
        let who = Who { block: 0, lane, clock: 1, place: 0, view };
        shadow.access(readers, &who, at.0, at.1, kind).is_ok()
    }

    #[test]
    fn concurrent_writes_and_reads_race_and_ordered_ones_do_not() {
        let view = View::new(0, 4);
        let later = View::meet_block([&view].into_iter(), 1).expect("a view");
        let (mut shadow, mut readers) = (Shadow::default(), Readers::default());
        let mut go = |lane, view: &View, at, kind| access(&mut shadow, &mut readers, lane, view, at, kind);
        assert!(go(0, &view, (0, 4), Kind::Write));
        assert!(go(0, &view, (0, 4), Kind::Read));
        assert!(!go(1, &view, (0, 4), Kind::Read));
        assert!(!go(1, &view, (0, 4), Kind::Write));
        assert!(go(1, &later, (0, 4), Kind::Write));
        for lane in 0..3 {
            assert!(go(lane, &view, (16, 16), Kind::Read));
        }
        assert!(!go(0, &view, (20, 4), Kind::Write));
        assert!(go(0, &later, (20, 4), Kind::Write));
    }

    #[test]
    fn every_reader_of_a_set_is_remembered() {
        let view = View::new(0, 4);
        let (mut shadow, mut readers) = (Shadow::default(), Readers::default());
        for _ in 0..3 {
            for lane in 0..4 {
                assert!(access(&mut shadow, &mut readers, lane, &view, (0, 4), Kind::Read));
            }
        }
        assert!(readers.nodes.len() <= 4);
        // A lane that has met lanes 1 to 3 only.
        let lanes = [(1u16, 1, &view), (2, 1, &view), (3, 1, &view)];
        let (met, _) = View::meet(lanes.into_iter()).expect("lanes");
        assert!(!access(&mut shadow, &mut readers, 3, &met, (0, 4), Kind::Write));
        let lanes = [(0u16, 1, &view), (1, 1, &view), (2, 1, &view), (3, 1, &view)];
        let (met, _) = View::meet(lanes.into_iter()).expect("lanes");
        assert!(access(&mut shadow, &mut readers, 3, &met, (0, 4), Kind::Write));
    }

    #[test]
    fn parts_of_a_word_are_apart() {
        let view = View::new(0, 4);
        let (mut shadow, mut readers) = (Shadow::default(), Readers::default());
        let mut go = |lane, at, kind| access(&mut shadow, &mut readers, lane, &view, at, kind);
        assert!(go(0, (0, 2), Kind::Write));
        assert!(go(1, (2, 2), Kind::Write));
        assert!(!go(1, (0, 4), Kind::Read));
        assert!(go(2, (4, 4), Kind::Write));
        assert!(!go(3, (5, 1), Kind::Read));
    }

    #[test]
    fn atomics_do_not_race_with_each_other() {
        let view = View::new(0, 4);
        let (mut shadow, mut readers) = (Shadow::default(), Readers::default());
        let mut go = |lane, kind| access(&mut shadow, &mut readers, lane, &view, (8, 4), kind);
        assert!(go(0, Kind::AtomicWrite));
        assert!(go(1, Kind::AtomicRead));
        assert!(go(2, Kind::AtomicWrite));
        assert!(!go(1, Kind::Read));
        assert!(!go(0, Kind::Write));
        // The first access of all, of the first lane of all.
        let mut go = |lane, kind| access(&mut shadow, &mut readers, lane, &view, (16, 4), kind);
        assert!(go(0, Kind::AtomicRead));
        assert!(go(1, Kind::AtomicWrite));
    }

    #[test]
    fn the_read_only_path_races_with_any_write() {
        let view = View::new(0, 4);
        let (mut shadow, mut readers) = (Shadow::default(), Readers::default());
        let mut go = |at, kind| access(&mut shadow, &mut readers, 0, &view, at, kind);
        assert!(go((0, 4), Kind::ReadOnly));
        assert!(!go((0, 4), Kind::Write));
        assert!(go((4, 4), Kind::Write));
        assert!(!go((4, 4), Kind::ReadOnly));
    }
}
