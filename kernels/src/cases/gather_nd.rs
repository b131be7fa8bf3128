//! Gathers by tuples of indices, byte by byte; indices outside their axis among them.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use crate::gather_nd::{Buffers, prepare};
use crate::places::Form;

/// A drawn way to name places, its indices, and for each element its place or none.
pub(super) struct Drawn {
    pub(super) form: Form,
    /// Bytes of an index.
    pub(super) index: usize,
    pub(super) indices: Vec<i64>,
    pub(super) places: Vec<Option<usize>>,
    pub(super) faulty: bool,
}

/// Tuples along leading axes with runs behind them, behind batches of both; or an index for each element along one axis.
/// Every fifth case or so has an index that names nothing.
pub(super) fn draw(r: &mut Draw) -> Drawn {
    let rank = r.within(1..=4) as usize;
    let mut data: Vec<u64> = (0..rank).map(|_| r.within(1..=5).into()).collect();
    let last = rank - 1;
    data[last] = r.edge(&[1, 2, 16, 33], 1..=9).into();
    let steps: Vec<u64> = (0..rank).map(|axis| data[axis + 1..].iter().product()).collect();
    let index = r.pick(&[4u32, 8]);
    let elements = data.iter().product();
    let (mut axes, mut named): (Vec<[u64; 3]>, Vec<[u64; 2]>) = (Vec::new(), Vec::new());
    if r.bool() {
        // As wide as the data or narrower, and any extent along the axis itself.
        let axis = r.index(rank);
        let wide = r.edge(&[1, 2, 100], 1..=6).into();
        let extents: Vec<u64> = (0..rank)
            .map(|at| if at == axis { wide } else { u64::from(r.within(1..=data[at] as u32)) })
            .collect();
        for at in 0..rank {
            let tuple = extents[at + 1..].iter().product();
            axes.push([extents[at], if at == axis { 0 } else { steps[at] }, tuple]);
        }
        named.push([data[axis], steps[axis]]);
    } else {
        let batch = r.index(rank);
        let depth = 1 + r.index(rank - batch);
        let places: u64 = r.edge(&[1, 3, 60], 1..=6).into();
        for at in 0..batch {
            let tuples: u64 = data[at + 1..batch].iter().product();
            axes.push([data[at], steps[at], tuples * places * depth as u64]);
        }
        axes.push([places, 0, depth as u64]);
        for at in batch + depth..rank {
            axes.push([data[at], steps[at], 0]);
        }
        named.extend((batch..batch + depth).map(|at| [data[at], steps[at]]));
    }
    let depth = named.len();
    let tuples: u64 = axes.iter().filter(|axis| axis[2] > 0).map(|axis| axis[0]).product();
    let count = tuples * depth as u64;
    let faulty = r.within(0..=4) == 0;
    let broken = r.index(count as usize);
    let indices: Vec<i64> = (0..count as usize)
        .map(|at| {
            let extent = named[at % depth][0] as i64;
            match (faulty && at == broken, r.bool()) {
                (true, true) => extent,
                (true, false) => -extent - 1,
                _ => i64::from(r.within(0..=2 * extent as u32 - 1)) - extent,
            }
        })
        .collect();
    let form = Form::new(&axes, &named, (index, count), elements);
    let form = form.unwrap_or_else(|refused| panic!("{axes:?}, {named:?}: {refused}"));
    let places = (0..form.count())
        .map(|number| {
            let (mut rest, mut place, mut tuple) = (number, 0, 0);
            for &[extent, step, of_index] in axes.iter().rev() {
                place += rest % extent * step;
                tuple += rest % extent * of_index;
                rest /= extent;
            }
            for (c, &[extent, step]) in named.iter().enumerate() {
                let index = indices[tuple as usize + c];
                let at = if index < 0 { index + extent as i64 } else { index };
                place += u64::try_from(at).ok().filter(|&at| at < extent)? * step;
            }
            Some(place as usize)
        })
        .collect();
    Drawn { form, index: index as usize, indices, places, faulty }
}

/// The bytes of indices.
pub(super) fn encoded(size: usize, indices: &[i64]) -> Vec<u8> {
    indices.iter().flat_map(|index| index.to_le_bytes()[..size].to_vec()).collect()
}

/// All sizes of elements.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let Drawn { form, index, indices, places, faulty } = draw(r);
    let size = r.pick(&[1u32, 2, 4, 8]);
    let bytes = size as usize;
    let from: Vec<u8> = (0..form.elements() as usize * bytes).map(|_| r.bits() as u8).collect();
    let buffers = Buffers {
        x: lab.upload("x", &from)?,
        indices: lab.upload("indices", &encoded(index, &indices))?,
        y: lab.room("y", form.count() * u64::from(size))?,
        fault: lab.upload("fault", &[0; 4])?,
    };
    if let Some(prepared) = prepare(size, &form, &buffers, &lab.device())? {
        lab.run(prepared)?;
    }
    let got = lab.bytes(buffers.y)?;
    for (number, (got, place)) in got.chunks_exact(bytes).zip(&places).enumerate() {
        let expected = place.map_or(vec![0; bytes], |at| from[at * bytes..(at + 1) * bytes].to_vec());
        if *got != expected[..] {
            let what = format!("{form:?}, element {number}: {got:?} instead of {expected:?}");
            return Err(Failure::Wrong(what));
        }
    }
    let found = lab.bytes(buffers.fault)? != [0; 4];
    if found != faulty {
        return Err(Failure::Wrong(format!("{form:?}: fault is {found}")));
    }
    Ok(())
}
