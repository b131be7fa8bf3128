//! Streams of a device: which steps go on side by side there.
//!
//! The device is taken to have as many parts as a plan may have streams. A step that takes no more than a part of it, by the
//! blocks that it keeps there and by the rates that it reaches, has a stream with that part; one that takes more has several
//! parts, or all of them. What streams do beside each other then takes what each takes alone.

use super::{Bringing, Candidate, Parts, Seat, Times};
use crate::plan::PlanError;
use crate::plan::instruction::Lane;
use crate::plan::streams::MOST_STREAMS;
use recurve_scheduler::Processor;
use std::ops::Range;

/// What can run one step at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct DeviceSeat {
    parts: Range<usize>,
    of: usize,
}

impl DeviceSeat {
    pub(super) fn stream(&self) -> usize {
        self.parts.start
    }

    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// As a processor of the device of this name.
    pub(super) fn processor(&self, device: &str) -> Processor {
        let own = name(device, self.stream());
        let part = |at: usize| format!("{device} part {at}");
        let (name, units) = match (self.of, self.parts()) {
            (1, _) => (own, None),
            (of, parts) if parts == of => {
                (format!("{device}*"), Some(self.parts.clone().map(part).collect()))
            }
            (_, 1) => (own, Some(vec![part(self.stream())])),
            (_, parts) => (format!("{own}+{}", parts - 1), Some(self.parts.clone().map(part).collect())),
        };
        Processor { name, memory: device.to_owned(), units }
    }
}

/// The seats of a device with so many streams: each stream with its part, halves where there are four, and all of it.
pub(super) fn seats(streams: usize) -> Vec<DeviceSeat> {
    let sizes = [1, streams / 2, streams];
    let mut seats: Vec<DeviceSeat> = Vec::new();
    for parts in sizes.into_iter().filter(|parts| *parts > 0 && streams.is_multiple_of(*parts)) {
        for start in (0..streams).step_by(parts) {
            let seat = DeviceSeat { parts: start..start + parts, of: streams };
            if !seats.contains(&seat) {
                seats.push(seat);
            }
        }
    }
    seats
}

/// The parts of the smallest of these seats that has so much of the device.
pub(super) fn smallest(seats: &[DeviceSeat], share: f64) -> usize {
    let enough = |seat: &&DeviceSeat| share * seat.of as f64 <= seat.parts() as f64;
    let all = seats.iter().map(DeviceSeat::parts).max().unwrap_or(1);
    seats.iter().filter(enough).map(DeviceSeat::parts).min().unwrap_or(all)
}

/// The name of a stream.
pub(super) fn name(device: &str, stream: usize) -> String {
    if stream == 0 { device.to_owned() } else { format!("{device}/{stream}") }
}

/// The streams of the steps on the device as the document has them.
pub(super) fn told(seats: &[Seat]) -> Vec<usize> {
    let streams: Vec<usize> = seats.iter().filter_map(|seat| seat.stream()).collect();
    if streams.iter().all(|stream| *stream == 0) { Vec::new() } else { streams }
}

impl Parts<'_> {
    /// How many streams are worth having: one where what an event costs is not known, or where no two steps can run side by
    /// side.
    pub(super) fn worth(&self) -> usize {
        if self.device.event_us.is_none() {
            return 1;
        }
        let mut depth = vec![0usize; self.costs.len()];
        let mut of_depth: Vec<usize> = Vec::new();
        for (step, needs) in crate::plan::build::needs(self.accesses).into_iter().enumerate() {
            depth[step] = needs.into_iter().map(|needed| depth[needed] + 1).max().unwrap_or(0);
            if self.device_cost(step).is_some_and(|(us, _)| us > 0.0) {
                of_depth.resize(of_depth.len().max(depth[step] + 1), 0);
                of_depth[depth[step]] += 1;
            }
        }
        of_depth.into_iter().max().unwrap_or(1).clamp(1, MOST_STREAMS)
    }

    /// Everything on the device that may run there, each step in the stream where it begins first, the longest way to the
    /// end first, and the rest on one worker.
    pub(super) fn all_side_by_side(&self) -> Result<Candidate, PlanError> {
        let steps = self.costs.len();
        let us = |step: usize| self.device_cost(step).map(|(us, _)| us);
        let alone = |step: usize| us(step).or(self.costs[step].alone.map(|(us, _)| us)).unwrap_or(0.0);
        let needs = crate::plan::build::needs(self.accesses);
        let mut left = vec![0.0f64; steps];
        for step in (0..steps).rev() {
            left[step] += alone(step);
            for &needed in &needs[step] {
                left[needed] = left[needed].max(left[step]);
            }
        }
        // What is needed has the longer way, or the same and the smaller number.
        let mut order: Vec<usize> = (0..steps).collect();
        order.sort_by(|a, b| left[*b].total_cmp(&left[*a]).then(a.cmp(b)));
        let event = self.device.event_us.unwrap_or(0.0);
        let mut free = [0.0f64; MOST_STREAMS];
        let mut ends = vec![0.0f64; steps];
        let mut starts = vec![0.0f64; steps];
        let mut made = vec![Seat::Cpu(Lane::Worker(0)); steps];
        let seats = seats(self.streams);
        for &step in &order {
            let ready = |stream: Option<usize>| {
                needs[step].iter().fold(0.0f64, |ready, &needed| {
                    let other =
                        stream.is_some() && made[needed].is_device() && made[needed].stream() != stream;
                    ready.max(ends[needed] + if other { event } else { 0.0 })
                })
            };
            if us(step).is_none() {
                starts[step] = ready(None);
            } else {
                let parts = smallest(&seats, self.device.share(step));
                let begins = |seat: &DeviceSeat| {
                    let free = free[seat.parts.clone()].iter().copied().fold(0.0, f64::max);
                    free.max(ready(Some(seat.stream())))
                };
                let own = seats.iter().filter(|seat| seat.parts() == parts);
                let best = own.min_by(|a, b| begins(a).total_cmp(&begins(b)));
                let best = best.ok_or_else(|| PlanError::invalid("the device has no stream"))?;
                starts[step] = begins(best);
                made[step] = Seat::Device(best.stream());
                free[best.parts.clone()].fill(starts[step] + alone(step));
            }
            ends[step] = starts[step] + alone(step);
        }
        self.candidate(made, Times { starts, ends }, Bringing::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_its_streams_its_halves_and_all_of_it() {
        let names = |streams: usize| -> Vec<String> {
            seats(streams).iter().map(|seat| seat.processor("gpu").name).collect()
        };
        assert_eq!(names(1), ["gpu"]);
        assert_eq!(names(2), ["gpu", "gpu/1", "gpu*"]);
        assert_eq!(names(3), ["gpu", "gpu/1", "gpu/2", "gpu*"]);
        assert_eq!(names(4), ["gpu", "gpu/1", "gpu/2", "gpu/3", "gpu+1", "gpu/2+1", "gpu*"]);
        let all = seats(4);
        for (share, parts) in [(0.0, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.7, 4), (1.0, 4), (2.0, 4)] {
            assert_eq!(smallest(&all, share), parts, "{share}");
        }
        assert_eq!(smallest(&seats(1), 0.1), 1);
    }

    #[test]
    fn one_stream_is_not_told() {
        assert!(told(&[Seat::Device(0), Seat::Cpu(Lane::All)]).is_empty());
        assert_eq!(told(&[Seat::Device(0), Seat::Cpu(Lane::All), Seat::Device(2)]), [0, 2]);
    }
}
