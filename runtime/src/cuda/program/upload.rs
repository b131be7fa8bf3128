//! Bytes of the host onto the device, through pinned memory, on a stream of their own: while one piece is copied, the next
//! bytes are packed and written beside it, or into another piece.
//!
//! **Invariant:** a block that bytes are on their way to is held here until they have arrived, so that nobody else is given
//! it, whatever becomes of the binding that asked for it; [`Uploader::settle`] stands between the last upload and the
//! first launch.

use super::{GpuFailure, GpuProgram, StepFailure, node_error};
use crate::cuda::{Allowance, Block, Event, GpuError, Pinned, Stream};
use crate::error::OpError;
use crate::exec::Interrupt;
use crate::memory::{Budget, Charge};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most bytes of a piece: large enough that a copy's start costs little.
const PIECE: usize = 4 << 20;
/// Pieces are multiples of this, what the host pins at once.
const PAGE: usize = 4 << 10;
/// Pieces: one is copied while another is written.
const PIECES: usize = 2;
/// Bytes begin at multiples of this.
const ALIGNED: usize = 256;
/// How long work that nobody waits for any more may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Uploader {
    /// What pinned memory is charged to.
    budget: Budget,
    largest: usize,
    under_way: Mutex<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    stream: Box<dyn Stream>,
    /// The one that is being written last; the others are being copied. None between bindings.
    pieces: VecDeque<Piece>,
}

/// A piece of pinned memory.
#[derive(Debug)]
struct Piece {
    pinned: Box<dyn Pinned>,
    _charge: Charge,
    bytes: usize,
    written: usize,
    /// What is copied to from it.
    blocks: Vec<Arc<Block>>,
    /// Behind its last copy, once it is full.
    copied: Option<Box<dyn Event>>,
}

impl Uploader {
    pub(super) fn new(gpu: &Allowance, budget: &Budget) -> Result<Self, GpuError> {
        Self::with_pieces(gpu, budget, PIECE)
    }

    /// One whose pieces have at most `largest` bytes.
    fn with_pieces(gpu: &Allowance, budget: &Budget, largest: usize) -> Result<Self, GpuError> {
        let under_way = UnderWay { stream: gpu.gpu().stream()?, pieces: VecDeque::new() };
        Ok(Self { budget: budget.clone(), largest, under_way: Mutex::new(under_way) })
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block of `gpu` that `bytes` are on their way to.
    pub(super) fn upload(
        &self,
        gpu: &Allowance,
        bytes: &[u8],
        interrupt: &Interrupt,
    ) -> Result<Arc<Block>, StepFailure> {
        let block = Arc::new(gpu.allocate(bytes.len())?);
        let mut held = self.lock();
        let mut done = 0;
        while done < bytes.len() {
            self.make_room(&mut held, gpu, bytes.len() - done, interrupt)?;
            let UnderWay { stream, pieces } = &mut *held;
            let Some(piece) = pieces.back_mut() else { break };
            let next = &bytes[done..];
            let next = &next[..next.len().min(piece.bytes - piece.written)];
            piece.pinned.write(piece.written, next)?;
            // From here on the block is copied to.
            piece.blocks.push(block.clone());
            let from = piece.pinned.address() + piece.written as u64;
            stream.copy(block.address() + done as u64, from, next.len())?;
            piece.written = (piece.written + next.len()).next_multiple_of(ALIGNED).min(piece.bytes);
            done += next.len();
        }
        Ok(block)
    }

    /// Sees to it that the last piece has room, for `wanted` bytes where it is a new one.
    fn make_room(
        &self,
        held: &mut UnderWay,
        gpu: &Allowance,
        wanted: usize,
        interrupt: &Interrupt,
    ) -> Result<(), StepFailure> {
        let UnderWay { stream, pieces } = held;
        if let Some(last) = pieces.back_mut() {
            if last.written < last.bytes {
                return Ok(());
            }
            if last.copied.is_none() {
                last.copied = Some(stream.record()?);
            }
        }
        let mut bytes = wanted.next_multiple_of(PAGE).min(self.largest);
        if pieces.len() == PIECES
            && let Some(oldest) = pieces.front_mut()
        {
            if let Some(copied) = &oldest.copied {
                stream.reach(&**copied, interrupt)?;
            }
            (oldest.written, oldest.copied) = (0, None);
            oldest.blocks.clear();
            if oldest.bytes >= bytes {
                pieces.rotate_left(1);
                return Ok(());
            }
            // Twice as large, so that many small uploads pin memory a few times only.
            bytes = bytes.max(2 * oldest.bytes).min(self.largest);
            pieces.pop_front();
        }
        let charge = self.budget.charge(bytes)?;
        let pinned = gpu.gpu().pinned(bytes)?;
        let (blocks, copied) = (Vec::new(), None);
        pieces.push_back(Piece { pinned, _charge: charge, bytes, written: 0, blocks, copied });
        Ok(())
    }

    /// Waits until all that is on its way has arrived, and gives the pinned memory back.
    pub(super) fn settle(&self, interrupt: &Interrupt) -> Result<(), GpuError> {
        let mut held = self.lock();
        if !held.pieces.is_empty() {
            held.stream.finish(interrupt)?;
            held.pieces.clear();
        }
        Ok(())
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        let held = self.under_way.get_mut().unwrap_or_else(PoisonError::into_inner);
        if held.pieces.is_empty() {
            return;
        }
        let wait = Interrupt { deadline: Some(Instant::now() + GRACE), cancel: None };
        if matches!(held.stream.finish(&wait), Err(GpuError::Interrupted)) {
            // Copies that do not end keep their memory.
            held.pieces.drain(..).for_each(std::mem::forget);
        }
    }
}

impl GpuProgram {
    /// A block that `bytes` are on their way to, there once [`GpuProgram::settle`] has returned.
    pub(super) fn upload(&self, bytes: &[u8], interrupt: &Interrupt) -> Result<Arc<Block>, GpuFailure> {
        self.uploader.upload(&self.gpu, bytes, interrupt).map_err(|failure| self.of_graph(failure))
    }

    /// The same with what `pack` makes, so many bytes.
    pub(super) fn upload_packed(
        &self,
        bytes: usize,
        pack: &dyn Fn() -> Vec<u8>,
        interrupt: &Interrupt,
    ) -> Result<Arc<Block>, GpuFailure> {
        let _charge = self.budget.charge(bytes).map_err(|error| self.of_graph(error.into()))?;
        let packed = pack();
        debug_assert_eq!(packed.len(), bytes, "bytes were told beforehand");
        self.upload(&packed, interrupt)
    }

    /// Pinned memory of `bytes`, and the charge for it.
    pub(super) fn pinned(&self, bytes: usize) -> Result<(Box<dyn Pinned>, Charge), StepFailure> {
        let charge = self.budget.charge(bytes)?;
        Ok((self.gpu.gpu().pinned(bytes)?, charge))
    }

    /// Waits for all uploads.
    pub(super) fn settle(&self, interrupt: &Interrupt) -> Result<(), GpuFailure> {
        Ok(self.uploader.settle(interrupt)?)
    }

    /// What failed for the graph as a whole.
    pub(super) fn of_graph(&self, failure: StepFailure) -> GpuFailure {
        let whole = |source: OpError| node_error(&self.graph, usize::MAX, source).into();
        match failure {
            StepFailure::Op(source) => whole(source),
            StepFailure::Gpu(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::OpenGpu;
    use crate::cuda::watched::{Failure, Told, WatchedGpu};
    use crate::testing::Gen;

    /// A GPU that does what it is told, and an uploader with small pieces.
    fn uploader(largest: usize, budget: &Budget) -> (Allowance, Told, Uploader) {
        let (gpu, told) = WatchedGpu::new(1 << 26);
        let gpu = Allowance::new(Arc::new(OpenGpu::new(Box::new(gpu), usize::MAX)), None);
        let uploader = Uploader::with_pieces(&gpu, budget, largest).expect("a stream");
        (gpu, told, uploader)
    }

    fn content(gpu: &Allowance, block: &Block) -> Vec<u8> {
        let mut bytes = vec![0; block.bytes()];
        if bytes.is_empty() {
            return bytes;
        }
        let pinned = gpu.gpu().pinned(bytes.len()).expect("pinned memory");
        let mut stream = gpu.gpu().stream().expect("a stream");
        stream.copy(pinned.address(), block.address(), bytes.len()).expect("given");
        stream.finish(&Interrupt::default()).expect("done");
        pinned.read(0, &mut bytes).expect("written");
        bytes
    }

    fn drawn(g: &mut Gen, bytes: usize) -> Vec<u8> {
        (0..bytes).map(|_| g.size(0, 255) as u8).collect()
    }

    #[test]
    fn what_is_uploaded_arrives_whatever_pieces_it_is_cut_into() {
        for seed in 0..40 {
            let mut g = Gen::new(seed);
            let budget = Budget::unlimited();
            let largest = PAGE * g.size(1, 3);
            let (gpu, _, uploader) = uploader(largest, &budget);
            let mut all = Vec::new();
            for _ in 0..g.size(1, 12) {
                let bytes = match g.size(0, 3) {
                    0 => g.size(0, 300),
                    1 => largest * g.size(1, 3),
                    _ => g.size(1, 3 * largest),
                };
                let bytes = drawn(&mut g, bytes);
                let block = uploader.upload(&gpu, &bytes, &Interrupt::default()).expect("given");
                all.push((bytes, block));
                assert!(budget.used() <= PIECES * largest, "seed {seed}: {}", budget.used());
            }
            uploader.settle(&Interrupt::default()).expect("arrived");
            assert_eq!(budget.used(), 0, "pinned memory is given back");
            for (at, (bytes, block)) in all.iter().enumerate() {
                assert!(content(&gpu, block) == *bytes, "seed {seed}, upload {at}");
            }
        }
    }

    #[test]
    fn packing_goes_on_while_copies_are_under_way_and_waits_when_all_pieces_are() {
        let (gpu, told, uploader) = uploader(PAGE, &Budget::unlimited());
        let deadline = Some(Instant::now() + Duration::from_millis(50));
        let short = Interrupt { deadline, cancel: None };
        // Whoever waits for a copy waits until it is over.
        told.fail(Failure::Stuck);
        let page = vec![7; PAGE];
        let blocks: Vec<_> =
            (0..PIECES).map(|_| uploader.upload(&gpu, &page, &short).expect("given at once")).collect();
        let addresses: Vec<u64> = blocks.iter().map(|block| block.address()).collect();
        drop(blocks);
        let third = uploader.upload(&gpu, &[9; 300], &short);
        assert!(matches!(third, Err(StepFailure::Gpu(GpuError::Interrupted))), "{third:?}");
        let other = gpu.allocate(PAGE).expect("memory");
        assert!(!addresses.contains(&other.address()), "what is being copied to is nobody else's");
        told.recover();
        let again = uploader.upload(&gpu, &[9; 300], &Interrupt::default()).expect("a piece is free again");
        uploader.settle(&Interrupt::default()).expect("arrived");
        assert_eq!(content(&gpu, &again), [9; 300]);
        let freed = gpu.allocate(PAGE).expect("memory");
        assert!(addresses.contains(&freed.address()), "given back when the copy is over");
    }

    #[test]
    fn a_budget_that_ends_and_a_gpu_that_is_lost_are_errors_of_their_own() {
        let (gpu, told, uploader) = uploader(4 * PAGE, &Budget::new(PAGE));
        let refused = uploader.upload(&gpu, &vec![1; 2 * PAGE], &Interrupt::default());
        assert!(matches!(refused, Err(StepFailure::Op(OpError::Memory { .. }))), "{refused:?}");
        let fits = uploader.upload(&gpu, &[1; 5], &Interrupt::default()).expect("a page");
        uploader.settle(&Interrupt::default()).expect("arrived");
        assert_eq!(content(&gpu, &fits), [1; 5]);
        told.fail(Failure::Sticky);
        let lost = uploader.upload(&gpu, &[1; 5], &Interrupt::default());
        assert!(matches!(lost, Err(StepFailure::Gpu(GpuError::Lost { .. }))), "{lost:?}");
    }
}
