//! # The matrix that a convolution multiplies its filters with
//! Columns are the positions of all images, rows the terms of a sum: channels of a group, and taps. It is never stored: a
//! column's window is placed once, and a term's tap is added to it.

use crate::conv::{Axis, MOST_AXES};
use crate::device::math::divide;
use crate::launch::Reject;

/// Sizes as kernels take them, a part of their parameters.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Field {
    pub(crate) axes: [Axis; MOST_AXES],
    /// Filters and channels of a group.
    pub(crate) filters: u32,
    pub(crate) channels: u32,
    pub(crate) groups: u32,
    /// Positions of all images.
    pub(crate) positions: u32,
    /// Channels × taps.
    pub(crate) terms: u32,
    /// Weights from filter to filter: the terms, or more.
    pub(crate) row: u32,
    /// Where positions lie in Y, where `spread` is not 0.
    places: [Spread; MOST_AXES],
    spread: u32,
}

const _: () = assert!(size_of::<Field>() == 136);

/// Positions of an axis as a part of a longer one: `first + step · position`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Spread {
    /// The extent of Y.
    pub extent: u32,
    /// Where the first position lies.
    pub first: u32,
    /// From position to position.
    pub step: u32,
}

/// The window of a position.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    /// The index of the group's first channel's first element.
    first: u64,
    /// Where it begins along each axis, possibly in front of the input: the numbers wrap.
    at: [u32; MOST_AXES],
    inside: bool,
}

/// A term: its channel, and its tap along each axis.
#[derive(Clone, Copy)]
pub(crate) struct Term {
    pub(crate) channel: u32,
    pub(crate) tap: [u32; MOST_AXES],
}

impl Field {
    /// The same with positions that are a part of a larger Y.
    pub(crate) fn with_places(self, places: [Spread; MOST_AXES]) -> Self {
        Self { places, spread: 1, ..self }
    }

    /// Image and position along each axis of column `column`.
    #[inline(always)]
    fn position(&self, column: u32) -> (u32, [u32; MOST_AXES]) {
        let (rest, c) = divide(column, self.axes[2].output);
        let (rest, b) = divide(rest, self.axes[1].output);
        let (image, a) = divide(rest, self.axes[0].output);
        (image, [a, b, c])
    }

    /// Elements of a filter's plane of Y.
    #[inline(always)]
    pub(crate) fn positions_of_image(&self) -> u32 {
        self.axes[0].output * self.axes[1].output * self.axes[2].output
    }

    /// Elements of a channel of X.
    #[inline(always)]
    fn plane(&self) -> u64 {
        u64::from(self.axes[0].input) * u64::from(self.axes[1].input) * u64::from(self.axes[2].input)
    }

    #[inline(always)]
    pub(crate) fn column(&self, column: u32, group: u32) -> Column {
        let (image, position) = self.position(column);
        let mut at = [0; MOST_AXES];
        for i in 0..MOST_AXES {
            at[i] = (position[i] * self.axes[i].stride).wrapping_sub(self.axes[i].begin);
        }
        let channel = u64::from(image * self.groups + group) * u64::from(self.channels);
        Column { first: channel * self.plane(), at, inside: column < self.positions }
    }

    /// Term `number`.
    #[inline(always)]
    pub(crate) fn term(&self, number: u32) -> Term {
        let (rest, c) = divide(number, self.axes[2].kernel);
        let (rest, b) = divide(rest, self.axes[1].kernel);
        let (channel, a) = divide(rest, self.axes[0].kernel);
        Term { channel, tap: [a, b, c] }
    }

    /// The term behind `term`, without a division.
    #[inline(always)]
    pub(crate) fn next(&self, term: Term) -> Term {
        let Term { channel, tap: [a, b, c] } = term;
        let c = c + 1;
        let carry = c == self.axes[2].kernel;
        let (b, c) = (b + u32::from(carry), if carry { 0 } else { c });
        let carry = b == self.axes[1].kernel;
        let (a, b) = (a + u32::from(carry), if carry { 0 } else { b });
        let carry = a == self.axes[0].kernel;
        Term { channel: channel + u32::from(carry), tap: [if carry { 0 } else { a }, b, c] }
    }

    /// Whether the element of a column that a term reads lies inside the input, and its index in X.
    #[inline(always)]
    pub(crate) fn place(&self, column: Column, term: Term) -> (bool, u64) {
        let [a, b, c] = self.axes;
        let i = column.at[0].wrapping_add(term.tap[0] * a.dilation);
        let j = column.at[1].wrapping_add(term.tap[1] * b.dilation);
        let l = column.at[2].wrapping_add(term.tap[2] * c.dilation);
        let inside = column.inside && i < a.input && j < b.input && l < c.input;
        let row = u64::from(i) * u64::from(b.input) + u64::from(j);
        let place = row * u64::from(c.input) + u64::from(l);
        (inside, column.first + u64::from(term.channel) * self.plane() + place)
    }

    /// The number in Y of filter `filter` of a group at column `at`, and how many of its plane follow; none follow outside.
    #[inline(always)]
    pub(crate) fn result(&self, group: u32, filter: u32, at: u32) -> (u64, u32) {
        if at >= self.positions || filter >= self.filters {
            return (0, 0);
        }
        if self.spread != 0 {
            let (image, [i, j, l]) = self.position(at);
            let [a, b, c] = &self.places;
            let row = (a.first + i * a.step) * b.extent + b.first + j * b.step;
            let place = u64::from(row) * u64::from(c.extent) + u64::from(c.first + l * c.step);
            let plane = u64::from(a.extent * b.extent) * u64::from(c.extent);
            let filter = u64::from((image * self.groups + group) * self.filters + filter);
            return (filter * plane + place, if c.step == 1 { self.axes[2].output - l } else { 1 });
        }
        // Positions follow one another up to the end of their image.
        let plane = self.positions_of_image();
        let (image, place) = divide(at, plane);
        let filter = u64::from((image * self.groups + group) * self.filters + filter);
        (filter * u64::from(plane) + u64::from(place), plane - place)
    }
}

/// The sizes of a convolution as its caller has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extents {
    pub(crate) images: u32,
    pub(crate) groups: u32,
    /// Channels and filters of a group.
    pub(crate) channels: u32,
    pub(crate) filters: u32,
    pub(crate) axes: [Axis; MOST_AXES],
}

impl Extents {
    pub(crate) fn product(&self, of: impl Fn(&Axis) -> u32) -> u64 {
        self.axes.iter().fold(1, |n: u64, axis| n.saturating_mul(of(axis).into()))
    }

    /// Positions of all images, and terms of a sum.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        let positions = self.product(|axis| axis.output).saturating_mul(self.images.into());
        (positions, self.product(|axis| axis.kernel).saturating_mul(self.channels.into()))
    }

    /// Whether Y has no elements.
    pub(crate) fn is_empty(&self) -> bool {
        self.sizes().0 == 0 || self.groups == 0 || self.filters == 0
    }

    /// Whether kernels can count all that there is.
    pub(crate) fn accepts(&self) -> Result<(), Reject> {
        let limit = u64::from(u32::MAX / 4);
        let (positions, terms) = self.sizes();
        let planes = u64::from(self.images) * u64::from(self.groups);
        let reach = |axis: &Axis| {
            let window = u64::from(axis.kernel).saturating_mul(axis.dilation.into());
            let moved = u64::from(axis.output).saturating_mul(axis.stride.into());
            window.saturating_add(moved).saturating_add(u64::from(axis.begin) + u64::from(axis.input))
        };
        for (name, got) in [
            ("positions", positions),
            ("terms", terms),
            ("images × channels", planes.saturating_mul(self.channels.into())),
            ("images × filters", planes.saturating_mul(self.filters.into())),
            ("reach", self.axes.iter().map(reach).max().unwrap_or(0)),
        ] {
            if got > limit {
                return Err(Reject::Extent { name, got, limit });
            }
        }
        if self.is_empty() {
            return Err(Reject::Unsupported { what: "a convolution without positions" });
        }
        Ok(())
    }

    /// Elements of X, W and Y.
    pub(crate) fn elements(&self) -> [u64; 3] {
        let (positions, terms) = self.sizes();
        let all = |factors: &[u64]| factors.iter().fold(1u64, |n, &factor| n.saturating_mul(factor));
        let (images, groups) = (u64::from(self.images), u64::from(self.groups));
        let (channels, filters) = (u64::from(self.channels), u64::from(self.filters));
        [
            all(&[images, groups, channels, self.product(|axis| axis.input)]),
            all(&[groups, filters, terms]),
            all(&[groups, filters, positions]),
        ]
    }

    /// As kernels take them.
    pub(crate) fn field(&self) -> Field {
        let (positions, terms) = self.sizes();
        Field {
            axes: self.axes,
            filters: self.filters,
            channels: self.channels,
            groups: self.groups,
            positions: positions as u32,
            terms: terms as u32,
            row: terms as u32,
            places: [Spread::default(); MOST_AXES],
            spread: 0,
        }
    }
}
