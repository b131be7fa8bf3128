//! Atomic operations on global memory, and what orders and fences publish.

use super::access::Touch;
use super::lane::{Here, Source};
use super::memory::Allocation;
use super::report::Access;
use super::run::{Released, Word};
use super::shadow::Kind;
use crate::device::atomic::{Atomic, AtomicInteger, Operation};
use crate::device::{Order, Plain, Scope};

/// Replaces a value in an allocation at once; gives the old one.
fn replace<T: Plain>(here: Here<'_>, allocation: &Allocation, offset: u64, change: impl Fn(T) -> T) -> T {
    let size = size_of::<T>() as u32;
    if size == 4 {
        let old = allocation.update(offset, |word| change(T::from_bits(word.into())).to_bits() as u32);
        return T::from_bits(old.into());
    }
    let _whole = here.group.run.memory.wide();
    let old = T::from_bits(allocation.load(offset, size));
    allocation.store(offset, size, change(old).to_bits());
    old
}

impl Here<'_> {
    pub(crate) fn fetch_global<T: Atomic>(
        self,
        address: u64,
        operation: Operation,
        operand: T,
        (order, scope): (Order, Scope),
        at: Source,
    ) -> T {
        self.exchange_global(address, |old| T::apply(operation, old, operand), (order, scope), at)
    }

    pub(crate) fn compare_exchange_global<T: AtomicInteger>(
        self,
        address: u64,
        (current, value): (T, T),
        (order, scope): (Order, Scope),
        at: Source,
    ) -> T {
        self.lane.last.set(at);
        self.poll();
        self.exchange_global(address, |old| if old == current { value } else { old }, (order, scope), at)
    }

    fn exchange_global<T: Plain>(
        self,
        address: u64,
        change: impl Fn(T) -> T,
        (order, scope): (Order, Scope),
        at: Source,
    ) -> T {
        let size = size_of::<T>() as u32;
        let old = self.global(
            address,
            Touch { size, kind: Kind::AtomicWrite, access: Access::Atomic, at },
            |allocation, offset| replace(self, allocation, offset, change),
        );
        let word = Word::Global(address);
        self.order_read(word, matches!(order, Order::Acquire | Order::AcquireRelease), scope);
        self.order_write(word, order, scope, true);
        self.group.changed();
        old
    }

    /// What a read of `word` learns: at once where it acquires, else for a fence behind it.
    pub(super) fn order_read(self, word: Word, acquires: bool, scope: Scope) {
        let run = &self.group.run;
        if !run.options.races {
            return;
        }
        let races = run.races.borrow();
        let Some(released) = races.released.get(&word) else { return };
        let narrow = released.scope.min(scope) == Scope::Block;
        if narrow && released.block != self.lane.view.borrow().block() {
            return;
        }
        if acquires {
            self.lane.acquire(&released.knowledge);
        } else {
            self.lane.seen.borrow_mut().get_or_insert_default().join(&released.knowledge);
        }
    }

    /// What a write of `word` publishes. One that also reads goes on with what was published before.
    pub(super) fn order_write(self, word: Word, order: Order, scope: Scope, reads: bool) {
        let run = &self.group.run;
        if !run.options.races {
            return;
        }
        let block = self.lane.view.borrow().block();
        let knowledge = match order {
            Order::Release | Order::AcquireRelease => Some(self.lane.release()),
            Order::Weak => None,
            _ => self.lane.fenced.borrow().clone(),
        };
        let released = &mut run.races.borrow_mut().released;
        match knowledge {
            Some(knowledge) => match released.get_mut(&word).filter(|_| reads) {
                Some(before) => {
                    before.knowledge.join(&knowledge);
                    before.scope = before.scope.min(scope);
                }
                None => {
                    released.insert(word, Released { knowledge, scope, block });
                }
            },
            None if !reads && !released.is_empty() => {
                released.remove(&word);
            }
            None => {}
        }
    }

    /// Acquires what atomic reads have seen, and releases for the atomic writes that follow.
    pub(crate) fn fence(self, _scope: Scope) {
        if !self.group.run.options.races {
            return;
        }
        if let Some(seen) = self.lane.seen.take() {
            self.lane.acquire(&seen);
        }
        let released = self.lane.release();
        self.lane.fenced.replace(Some(released));
    }
}
