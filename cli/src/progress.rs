//! Progress bars.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// The bars of a command. They are hidden where stderr is no terminal.
pub(crate) fn bars(hidden: bool) -> MultiProgress {
    MultiProgress::with_draw_target(if hidden {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    })
}

/// A bar of `steps`, or a spinner where their number is not known.
pub(crate) fn bar(bars: &MultiProgress, steps: Option<u64>, label: &'static str) -> ProgressBar {
    const TICK: Duration = Duration::from_millis(100);
    let (bar, template) = match steps {
        Some(steps) => (ProgressBar::new(steps), "{msg} [{bar:30}] {pos}/{len}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg} {elapsed}"),
    };
    // A template that does not parse would leave the default one, which is as good.
    let bar = bar.with_message(label);
    let bar = match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    };
    let bar = bars.add(bar);
    if !bars.is_hidden() {
        bar.enable_steady_tick(TICK);
    }
    bar
}
