//! The matrix unit of a processor that has none.

use super::{Beside, Columns, Line, PARTS, Place, SIDE, Start};

/// Proof that the unit is there: it is not.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {}

/// The unit set up.
#[derive(Debug)]
pub(crate) enum Session {}

impl Unit {
    /// None.
    pub(crate) fn detect() -> Option<Self> {
        None
    }

    pub(crate) fn session(self) -> Session {
        match self {}
    }

    pub(crate) fn split_line(self, _: [&[f32; SIDE]; 2], _: [&mut Line; PARTS]) -> bool {
        match self {}
    }

    pub(crate) fn split_columns<const W: usize>(
        self,
        _: [&[[f32; W]]; 2],
        _: (usize, usize),
        _: &mut [Line],
    ) {
        match self {}
    }

    pub(crate) fn stand_for(self, _: &[f32]) -> bool {
        match self {}
    }
}

impl Session {
    pub(crate) fn product<const R: usize, const N: usize>(
        &mut self,
        _: Place<'_>,
        _: &[Line],
        _: Start<'_>,
        _: ([&mut [f32]; N], usize),
        _: impl FnMut(),
    ) {
        match *self {}
    }

    pub(crate) fn product_apart<const R: usize, const N: usize, const W: usize>(
        &mut self,
        _: Place<'_>,
        _: &Columns<'_, W>,
        _: &mut [Line],
        _: Start<'_>,
        _: ([&mut [f32]; N], usize),
    ) {
        match *self {}
    }

    pub(crate) fn product_beside<const R: usize, const N: usize, const W: usize>(
        &mut self,
        _: Place<'_>,
        _: &[Line],
        _: Start<'_>,
        _: ([&mut [f32]; N], usize),
        _: &mut Beside<'_, W>,
    ) {
        match *self {}
    }
}
