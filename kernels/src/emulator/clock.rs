//! What threads know of each other: vector clocks, kept small by what barriers make equal.
//!
//! Every lane counts a clock of its own. An access at clock `c` of lane `l` happens before what another lane does now
//! if that lane knows `l` up to `c`. Barriers set the clocks of their lanes to one number, so that a view is mostly
//! two floors: one that every lane of the grid is known to, and one for the own block.

use std::collections::BTreeMap;
use std::rc::Rc;

/// The clocks to which the lanes of one block are known.
#[derive(Clone, Debug, Default)]
pub(super) struct BlockClocks {
    /// All of them.
    floor: u32,
    /// Each of them, where more is known.
    each: Option<Rc<[u32]>>,
}

impl BlockClocks {
    /// Every lane up to `floor`.
    pub(super) fn all(floor: u32) -> Self {
        Self { floor, each: None }
    }

    /// Each lane up to its own clock.
    pub(super) fn each(clocks: Vec<u32>) -> Self {
        Self { floor: clocks.iter().copied().min().unwrap_or(0), each: Some(clocks.into()) }
    }

    fn knows(&self, lane: u16, clock: u32) -> bool {
        clock <= self.floor || self.each.as_ref().is_some_and(|each| clock <= each[lane as usize])
    }

    /// Knows `lane` up to `clock`, too; the block has `lanes`.
    fn learn(&mut self, lane: u16, clock: u32, lanes: usize) {
        if self.knows(lane, clock) {
            return;
        }
        let each = self.each.get_or_insert_with(|| vec![0; lanes].into());
        let mut clocks = each.to_vec();
        clocks[lane as usize] = clock;
        self.each = Some(clocks.into());
    }

    fn join(&mut self, other: &Self) {
        self.floor = self.floor.max(other.floor);
        match (&mut self.each, &other.each) {
            (_, None) => {}
            (None, Some(theirs)) => self.each = Some(Rc::clone(theirs)),
            (Some(own), Some(theirs)) if Rc::ptr_eq(own, theirs) => {}
            (Some(own), Some(theirs)) => {
                if theirs.iter().zip(own.iter()).any(|(t, o)| t > o) {
                    *own = own.iter().zip(theirs.iter()).map(|(a, b)| *a.max(b)).collect();
                }
            }
        }
    }
}

/// What is known of all lanes of the grid: what a release publishes.
#[derive(Clone, Debug, Default)]
pub(super) struct Knowledge {
    everyone: u32,
    blocks: Rc<BTreeMap<u32, BlockClocks>>,
}

impl Knowledge {
    /// Nothing but the clocks of one block.
    pub(super) fn of_block(block: u32, clocks: BlockClocks) -> Self {
        Self { everyone: 0, blocks: Rc::new(BTreeMap::from([(block, clocks)])) }
    }

    /// Learns what `other` knows.
    pub(super) fn join(&mut self, other: &Self) {
        self.everyone = self.everyone.max(other.everyone);
        if Rc::ptr_eq(&self.blocks, &other.blocks) || other.blocks.is_empty() {
            return;
        }
        if self.blocks.is_empty() {
            self.blocks = Rc::clone(&other.blocks);
            return;
        }
        let blocks = Rc::make_mut(&mut self.blocks);
        for (&block, clocks) in other.blocks.iter() {
            blocks.entry(block).or_default().join(clocks);
        }
    }
}

/// What one lane knows.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// The block's number in the grid.
    block: u32,
    /// Its lanes, and one more for copies that run beside them.
    lanes: usize,
    own: BlockClocks,
    rest: Knowledge,
}

impl View {
    /// A lane of `block` that knows nothing.
    pub(super) fn new(block: u32, lanes: usize) -> Self {
        Self { block, lanes, own: BlockClocks::default(), rest: Knowledge::default() }
    }

    /// The block whose lanes are the view's own.
    pub(super) fn block(&self) -> u32 {
        self.block
    }

    /// Whether what `lane` of `block` did at `clock` happened before.
    pub(super) fn knows(&self, block: u32, lane: u16, clock: u32) -> bool {
        if clock <= self.rest.everyone {
            return true;
        }
        if block == self.block {
            return self.own.knows(lane, clock);
        }
        self.rest.blocks.get(&block).is_some_and(|clocks| clocks.knows(lane, clock))
    }

    /// Whether everything that lanes did up to `clock` happened before: of `block`, or of any block where it is `None`.
    pub(super) fn knows_all(&self, block: Option<u32>, clock: u32) -> bool {
        clock <= self.rest.everyone || (block == Some(self.block) && clock <= self.own.floor)
    }

    /// What is published by `lane` of this view at its `clock`.
    pub(super) fn release(&self, lane: u16, clock: u32) -> Knowledge {
        let mut own = self.own.clone();
        own.learn(lane, clock, self.lanes);
        let mut knowledge = self.rest.clone();
        Rc::make_mut(&mut knowledge.blocks).entry(self.block).or_default().join(&own);
        knowledge
    }

    /// Learns what was published.
    pub(super) fn acquire(&mut self, knowledge: &Knowledge) {
        if let Some(clocks) = knowledge.blocks.get(&self.block) {
            self.own.join(clocks);
        }
        self.rest.join(knowledge);
    }

    /// What is known of other blocks.
    pub(super) fn rest(&self) -> &Knowledge {
        &self.rest
    }

    /// Raises `clocks`, one for each lane of the own block, to what is known of them.
    pub(super) fn raise(&self, clocks: &mut [u32]) {
        if let Some(each) = &self.own.each {
            clocks.iter_mut().zip(each.iter()).for_each(|(clock, known)| *clock = (*clock).max(*known));
        }
    }

    /// What lanes of one block know together, each with its own clock; their clocks go on from behind the result's
    /// second part.
    pub(super) fn meet<'a>(lanes: impl Iterator<Item = (u16, u32, &'a Self)> + Clone) -> Option<(Self, u32)> {
        let (_, _, first) = lanes.clone().next()?;
        let mut met = first.clone();
        let mut latest = 0;
        for (_, clock, view) in lanes.clone() {
            latest = latest.max(clock);
            met.own.join(&view.own);
            met.rest.join(&view.rest);
        }
        let mut each = met.own.each.as_ref().map_or_else(|| vec![0; met.lanes], |each| each.to_vec());
        for (lane, _, _) in lanes {
            each[lane as usize] = latest;
        }
        met.own.each = Some(each.into());
        Some((met, latest))
    }

    /// After a barrier of all lanes of the block up to `clock`.
    pub(super) fn meet_block<'a>(views: impl Iterator<Item = &'a Self>, clock: u32) -> Option<Self> {
        let mut views = views;
        let mut met = views.next()?.clone();
        for view in views {
            met.rest.join(&view.rest);
        }
        met.own = BlockClocks::all(clock);
        Some(met)
    }

    /// After a barrier of all lanes of the grid up to `clock`.
    pub(super) fn meet_grid(&mut self, clock: u32) {
        self.own = BlockClocks::all(clock);
        self.rest = Knowledge { everyone: clock, blocks: Rc::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_carries_what_was_acquired() {
        let mut a = View::new(0, 3);
        let mut b = View::new(1, 3);
        let mut c = View::new(2, 3);
        assert!(!b.knows(0, 1, 1));
        b.acquire(&a.release(1, 4));
        assert!(b.knows(0, 1, 4) && !b.knows(0, 1, 5) && !b.knows(0, 0, 1));
        c.acquire(&b.release(2, 7));
        assert!(c.knows(0, 1, 4) && c.knows(1, 2, 7) && !c.knows(1, 1, 1));
        a.meet_grid(9);
        assert!(a.knows(5, 0, 9) && a.knows_all(None, 9) && !a.knows(0, 0, 10));
    }

    #[test]
    fn lanes_that_meet_know_each_other_and_nobody_else() {
        let views = [View::new(0, 4), View::new(0, 4)];
        let (met, latest) =
            View::meet([(0u16, 3, &views[0]), (2, 5, &views[1])].into_iter()).expect("two lanes");
        assert_eq!(latest, 5);
        assert!(met.knows(0, 0, 5) && met.knows(0, 2, 5) && !met.knows(0, 1, 1) && !met.knows(1, 0, 1));
        let all = View::meet_block(views.iter(), 6).expect("two lanes");
        assert!(all.knows(0, 3, 6) && all.knows_all(Some(0), 6) && !all.knows_all(None, 6));
    }
}
