//! Positions of the running lane.

use super::super::Axis;
use crate::emulator::lane::with;

pub(crate) fn thread(axis: Axis) -> u32 {
    with(|here| here.lane.position.thread[axis as usize])
}

pub(crate) fn block(axis: Axis) -> u32 {
    with(|here| here.lane.position.block[axis as usize])
}

pub(crate) fn block_size(axis: Axis) -> u32 {
    with(|here| here.lane.position.block_size[axis as usize])
}

pub(crate) fn grid_size(axis: Axis) -> u32 {
    with(|here| here.lane.position.grid_size[axis as usize])
}

pub(crate) fn lane() -> u32 {
    with(|here| here.lane.position.lane)
}

pub(crate) fn cluster_rank() -> u32 {
    with(|here| here.lane.position.cluster_rank)
}

pub(crate) fn cluster_size() -> u32 {
    with(|here| here.lane.position.cluster_size)
}

pub(crate) fn cluster_index() -> u32 {
    with(|here| here.lane.position.cluster_index)
}
