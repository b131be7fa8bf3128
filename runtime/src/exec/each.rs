//! One value for each number, made by the threads of a team.

use super::team::Team;
use std::sync::{Mutex, PoisonError};

/// `make(0)`, …, `make(count − 1)`, each made by whichever thread of `team` is free; all by the caller while another caller holds
/// the team.
pub(crate) fn each<T: Send>(team: &Team, count: usize, make: &(dyn Fn(usize) -> T + Sync)) -> Vec<T> {
    let made: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
    team.for_each(count, &|at| {
        let value = make(at);
        *made[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    });
    // A panic in one of them has passed through here by now.
    made.into_iter().filter_map(|value| value.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_the_order_of_their_numbers() {
        for team in [Team::serial(), Team::new(3, false)] {
            let squares = each(&team, 100, &|at| at * at);
            assert!(squares.into_iter().enumerate().all(|(at, square)| square == at * at));
            assert!(each(&team, 0, &|at| at).is_empty());
        }
    }
}
