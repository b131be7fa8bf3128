//! Shuffles and votes.

use super::super::warp::{LANES, Source, Vote};
use crate::emulator::Exchange;
use crate::emulator::lane::with;
use std::panic::Location;

#[track_caller]
pub(crate) fn shuffle(mask: u32, source: Source, value: u32, argument: u32, width: u32) -> u32 {
    let at = Location::caller();
    with(|here| {
        let own = here.lane.position.lane;
        let from = lane_of(source, own, argument % LANES, width);
        here.exchange(mask, Exchange::Shuffle, [value, from, 0, 0, 0, 0, 0, 0, 0, 0], at)[0]
    })
}

/// The lane that `own` reads from: itself where the source is outside its segment.
fn lane_of(source: Source, own: u32, argument: u32, width: u32) -> u32 {
    let start = own & !(width - 1);
    let end = start + width;
    let from = match source {
        Source::Xor => own ^ argument,
        Source::Up => own.wrapping_sub(argument),
        Source::Down => own + argument,
        Source::Lane => start + argument % width,
    };
    // An exchange may reach into lower segments, never into upper ones.
    let inside = if source == Source::Xor { from < end } else { (start..end).contains(&from) };
    if inside { from } else { own }
}

#[track_caller]
pub(crate) fn vote(mask: u32, vote: Vote, predicate: bool) -> u32 {
    let at = Location::caller();
    let words = [predicate.into(), 0, 0, 0, 0, 0, 0, 0, 0, 0];
    with(|here| here.exchange(mask, Exchange::Vote(vote), words, at)[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffles_stay_in_their_segment() {
        assert_eq!(lane_of(Source::Xor, 5, 16, 32), 21);
        assert_eq!(lane_of(Source::Xor, 5, 8, 8), 5);
        assert_eq!(lane_of(Source::Up, 9, 2, 8), 9);
        assert_eq!(lane_of(Source::Up, 9, 1, 8), 8);
        assert_eq!(lane_of(Source::Down, 14, 1, 8), 15);
        assert_eq!(lane_of(Source::Down, 15, 1, 8), 15);
        assert_eq!(lane_of(Source::Lane, 19, 1, 16), 17);
        assert_eq!(lane_of(Source::Lane, 19, 31, 32), 31);
    }
}
