//! Launching: groups of blocks one after the other, and the lanes of a group in turns.

use super::group::Group;
use super::lane::{self, Lane};
use super::memory::Memory;
use super::report::{Fault, Instead, Meeting, Party, Report};
use super::run::Run;
use super::{Options, transfers};
use crate::launch::Launch;
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use rayon::prelude::*;
use std::any::Any;
use std::cell::RefCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

/// Turns that all lanes may poll without any change before that counts as a deadlock.
const PATIENCE: u64 = 4096;
/// Stacks that an OS thread keeps.
const KEPT_STACKS: usize = 4096;

thread_local! {
    static STACKS: RefCell<Vec<(usize, DefaultStack)>> = const { RefCell::new(Vec::new()) };
}

/// Runs a launch to its end.
pub fn launch(memory: &Arc<Memory>, launch: &dyn Launch, options: Options) -> Result<(), Report> {
    let geometry = *launch.geometry();
    let blocks = geometry.blocks();
    let width = if geometry.cooperative { blocks } else { u64::from(geometry.cluster) };
    let groups = blocks / width.max(1);
    let range = |group: u64| group * width..(group + 1) * width;
    let kernel = launch.kernel().entry;
    if options.races || groups == 1 {
        let run = Rc::new(Run::new(kernel, geometry, options, memory));
        return (0..groups).try_for_each(|group| run_group(&run, range(group), launch));
    }
    (0..groups).into_par_iter().try_for_each_init(
        || Rc::new(Run::new(kernel, geometry, options, memory)),
        |run, group| run_group(run, range(group), launch),
    )
}

type Fiber = Coroutine<(), (), ()>;

fn run_group(run: &Rc<Run>, blocks: Range<u64>, launch: &dyn Launch) -> Result<(), Report> {
    let group = Group::new(run, blocks);
    let mut fibers: Vec<Option<Fiber>> = (0..group.lanes.len()).map(|_| None).collect();
    let result = drive(&group, &mut fibers, launch);
    for fiber in fibers.into_iter().flatten() {
        retire(fiber, run.options.stack_bytes);
    }
    result
}

/// Resumes lanes until all have left, one has failed, or none can go on.
fn drive(group: &Group, fibers: &mut [Option<Fiber>], launch: &dyn Launch) -> Result<(), Report> {
    let mut left = 0;
    // Turns since something but polling happened, and what had changed by then.
    let (mut quiet, mut changes) = (0, 0);
    while left < group.lanes.len() {
        let next = group.ready.borrow_mut().pop_front();
        let polling = quiet > group.ready.borrow().len() as u64;
        if next.is_none() || polling {
            if transfers::complete_one(group)? {
                quiet = 0;
            } else if next.is_none() {
                return Err(stuck(group));
            }
        }
        let Some(number) = next else { continue };
        if polling && group.run.options.polled_from_outside {
            std::thread::yield_now();
        } else if quiet > (group.ready.borrow().len() as u64 + 1) * PATIENCE {
            return Err(stuck(group));
        }
        let lane = &group.lanes[number];
        let slot = &mut fibers[number];
        if slot.is_none() {
            *slot = Some(spawn(lane, launch, group.run.options.stack_bytes)?);
        }
        let Some(fiber) = slot.as_mut() else { continue };
        let resumed = lane::enter(group, number, || catch_unwind(AssertUnwindSafe(|| fiber.resume(()))));
        if let Some(report) = group.fault.take() {
            return Err(report);
        }
        match resumed {
            Ok(CoroutineResult::Yield(())) => {}
            Ok(CoroutineResult::Return(())) => {
                left += 1;
                if let Some(done) = slot.take() {
                    retire(done, group.run.options.stack_bytes);
                }
                leave(group, lane)?;
            }
            Err(payload) => return Err(report(group, lane, Fault::Panic { message: message(&*payload) })),
        }
        let polls = lane.waiting.get() == Some(Meeting::Polling) && group.changes.get() == changes;
        quiet = if polls { quiet + 1 } else { 0 };
        changes = group.changes.get();
    }
    while transfers::complete_one(group)? {}
    Ok(())
}

fn spawn(lane: &Lane, launch: &dyn Launch, stack_bytes: usize) -> Result<Fiber, Report> {
    let pooled = STACKS.with_borrow_mut(|stacks| match stacks.last() {
        Some(&(bytes, _)) if bytes == stack_bytes => stacks.pop().map(|(_, stack)| stack),
        _ => None,
    });
    let stack = match pooled {
        Some(stack) => stack,
        None => DefaultStack::new(stack_bytes).map_err(|_| {
            Report::new(
                launch.kernel().entry,
                None,
                Fault::Misuse { what: "the host has no memory for another lane's stack" },
            )
        })?,
    };
    let body = move |yielder: &corosensei::Yielder<(), ()>, ()| {
        lane.run(yielder, || launch.run_thread());
    };
    // SAFETY: the closure borrows a lane and a launch, both of which outlive `fibers` in `run_group`, where every
    // coroutine is finished or unwound before they end.
    Ok(unsafe { Coroutine::with_stack_unchecked(stack, body) })
}

/// Unwinds a coroutine that has not finished, and keeps its stack.
fn retire(mut fiber: Fiber, stack_bytes: usize) {
    if !fiber.done() {
        fiber.force_unwind();
    }
    let stack = fiber.into_stack();
    STACKS.with_borrow_mut(|stacks| {
        if stacks.len() < KEPT_STACKS && stacks.last().is_none_or(|&(bytes, _)| bytes == stack_bytes) {
            stacks.push((stack_bytes, stack));
        }
    });
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn report(group: &Group, lane: &Lane, fault: Fault) -> Report {
    Report::new(group.run.kernel, Some(lane.party()), fault)
}

/// A lane ends. Who waits for it at a barrier or in its warp waits in vain.
fn leave(group: &Group, lane: &Lane) -> Result<(), Report> {
    lane.left.set(true);
    group.changed();
    if lane.copies.borrow().stores_pending() {
        let what = "left the kernel with bulk stores that were not committed and waited for";
        return Err(report(group, lane, Fault::Misuse { what }));
    }
    let mut blocks = group.blocks.borrow_mut();
    let block = &mut blocks[lane.member];
    block.left += 1;
    block.first_left.get_or_insert(lane.party());
    let other = lane.party();
    let in_vain = |waiting: usize, kind: Meeting| {
        let fault = Fault::Divergence { kind, other, instead: Instead::Left };
        Err(report(group, &group.lanes[waiting], fault))
    };
    if let Some(&waiting) = block.arrived.first() {
        return in_vain(waiting, Meeting::BlockBarrier);
    }
    let warp = &block.warps[(lane.rank / crate::device::warp::LANES) as usize];
    if let Some(meeting) = warp.iter().find(|meeting| meeting.expects(lane.position.lane)) {
        return in_vain(meeting.first(), meeting.kind());
    }
    Ok(())
}

/// Why no lane can go on: one that others wait for waits elsewhere, or all wait in a ring.
fn stuck(group: &Group) -> Report {
    let waiting: Vec<&Lane> = group.lanes.iter().filter(|lane| !lane.left.get()).collect();
    let at = |lane: &Lane| lane.waiting.get().unwrap_or(Meeting::Polling);
    let blocks = group.blocks.borrow();
    for lane in &waiting {
        let kind = at(lane);
        let missing: Option<Party> = match kind {
            Meeting::BlockBarrier => {
                let absent = |other: &&Lane| at(other) != kind;
                group.lanes_of(lane.member).iter().find(absent).map(Lane::party)
            }
            Meeting::ClusterBarrier => {
                let absent = |other: &&Lane| at(other) != kind;
                group.cluster_lanes(lane.member).iter().find(absent).map(Lane::party)
            }
            Meeting::GridBarrier => {
                let absent = |other: &&Lane| at(other) != kind;
                group.lanes.iter().find(absent).map(Lane::party)
            }
            Meeting::WarpBarrier | Meeting::Shuffle | Meeting::Vote | Meeting::Matrix => {
                let warps = &blocks[lane.member].warps[(lane.rank / 32) as usize];
                let meeting = warps.iter().find(|meeting| meeting.has(lane.position.lane));
                let absent = |other: &&Lane| {
                    other.rank / 32 == lane.rank / 32
                        && meeting.is_some_and(|meeting| meeting.expects(other.position.lane))
                };
                group.lanes_of(lane.member).iter().find(absent).map(Lane::party)
            }
            _ => None,
        };
        let Some(other) = missing else { continue };
        let same = |l: &&&Lane| l.position.block == other.block && l.position.thread == other.thread;
        let instead = waiting.iter().find(same).map_or(Instead::Left, |l| Instead::Waits(at(l)));
        return report(group, lane, Fault::Divergence { kind, other, instead });
    }
    match waiting.first() {
        Some(first) => report(group, first, Fault::Deadlock { waiting: waiting.len(), kind: at(first) }),
        None => Report::new(group.run.kernel, None, Fault::Misuse { what: "nothing to run" }),
    }
}
