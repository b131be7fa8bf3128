//! The matrix unit of a processor that has none.

use super::{Line, PARTS, Place, SIDE};

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
    ) -> bool {
        match self {}
    }
}

impl Session {
    pub(crate) fn product<const R: usize, const N: usize>(
        &mut self,
        _: Place<'_>,
        _: &[Line],
        _: &[[f32; SIDE]],
        _: ([&mut [f32]; N], usize),
    ) {
        match *self {}
    }
}
