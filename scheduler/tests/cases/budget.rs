//! Budgets on the command lines of the examples.

use std::num::ParseIntError;
use std::time::Duration;

use recurve_scheduler::Budget;

/// A budget from the command line: `200ms`, or a number of evaluations.
pub(crate) fn budget(text: Option<&str>) -> Result<Budget, ParseIntError> {
    let text = text.unwrap_or("200ms");
    Ok(match text.strip_suffix("ms") {
        Some(ms) => Budget::Time(Duration::from_millis(ms.parse()?)),
        None => Budget::Evaluations(text.parse()?),
    })
}
