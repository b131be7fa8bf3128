//! The terminal: what goes to stdout, what to stderr, and in which dress.

use crate::arguments::{Color, OutputArguments};
use crate::environment;
use crate::progress;
use anyhow::{Context, Result};
use indicatif::{MultiProgress, ProgressBar};
use serde::Serialize;
use std::borrow::Cow;
use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};

/// Where a command writes.
#[derive(Debug)]
pub(crate) struct Terminal {
    json: bool,
    quiet: bool,
    colored: Colored,
    bars: MultiProgress,
}

/// Which streams get colours.
#[derive(Debug)]
struct Colored {
    out: bool,
    err: bool,
}

impl Terminal {
    pub(crate) fn new(arguments: &OutputArguments) -> Self {
        let colored = |is_terminal: bool| match arguments.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => is_terminal && !environment::no_color(),
        };
        Self {
            json: arguments.json,
            quiet: arguments.quiet,
            colored: Colored {
                out: colored(std::io::stdout().is_terminal()),
                err: colored(std::io::stderr().is_terminal()),
            },
            bars: progress::bars(arguments.quiet || arguments.json),
        }
    }

    /// The bars that share stderr with logs and narration.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Whether stdout gets a document instead of text.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// A heading for stdout.
    pub(crate) fn heading(&self, text: &str) -> String {
        paint(text, "1", self.colored.out)
    }

    /// `text` on stdout as something good or bad.
    pub(crate) fn verdict(&self, text: &str, good: bool) -> String {
        paint(text, if good { "32" } else { "1;31" }, self.colored.out)
    }

    /// Prints the one document of a command.
    pub(crate) fn document(&self, document: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string_pretty(document).context("the document cannot be written")?;
        text.push('\n');
        self.print(&text)
    }

    /// Prints data to stdout. A reader that has gone away, such as `head`, is no error.
    pub(crate) fn print(&self, text: &str) -> Result<()> {
        let text = harmless(text, if self.colored.out { &DRESS } else { &[] });
        let written = self.bars.suspend(|| {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        });
        match written {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(error).context("stdout cannot be written")
            }
            _ => Ok(()),
        }
    }

    /// Says something on stderr that the data does not say.
    pub(crate) fn narrate(&self, text: impl Display) {
        if !self.quiet {
            self.bars.suspend(|| tell(&harmless(&text.to_string(), &[])));
        }
    }

    /// Says something on stderr where no bar tells of progress, for closures that outlive a call.
    pub(crate) fn beside_bars(&self) -> impl Fn(&str) + Send + Sync + use<> {
        let silent = self.quiet || !self.bars.is_hidden();
        move |text| {
            if !silent {
                tell(&harmless(text, &[]));
            }
        }
    }

    /// A line of an error.
    pub(crate) fn complain(&self, label: &str, text: &str) {
        let code = if label == "error" { "1;31" } else { "1" };
        let label = paint(&format!("{label}:"), code, self.colored.err);
        self.bars.suspend(|| tell(&format!("{label} {}", harmless(text, &[]))));
    }

    /// A bar of `steps`, or a spinner where their number is not known.
    pub(crate) fn progress(&self, steps: Option<u64>, label: &'static str) -> ProgressBar {
        progress::bar(&self.bars, steps, label)
    }
}

/// A line on stderr. Where nobody reads it any more, nobody is told.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn paint(text: &str, code: &str, colored: bool) -> String {
    if colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// What [`paint`] puts around data: bold, green, bold red, and the end of each.
const DRESS: [&str; 4] = ["\x1b[1m", "\x1b[32m", "\x1b[1;31m", "\x1b[0m"];

/// Text whose control characters, but for line ends and what is `allowed`, are spelled out: names come from files,
/// which may hold commands for a terminal.
fn harmless<'t>(text: &'t str, allowed: &[&str]) -> Cow<'t, str> {
    let risky = |c: char| c.is_control() && c != '\n';
    if !text.contains(risky) {
        return Cow::Borrowed(text);
    }
    let (mut made, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(risky) {
        let (before, from) = rest.split_at(at);
        made.push_str(before);
        let own = allowed.iter().find(|own| from.starts_with(**own)).map_or(0, |own| own.len());
        made.push_str(&from[..own]);
        let mut behind = from[own..].chars();
        if own == 0 {
            made.extend(behind.next().into_iter().flat_map(char::escape_default));
        }
        rest = behind.as_str();
    }
    made.push_str(rest);
    Cow::Owned(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_hold_gives_the_terminal_no_commands() {
        assert!(matches!(harmless("two\nlines, µs", &[]), Cow::Borrowed(_)));
        assert_eq!(harmless("a\x1b[2Jb\rc\u{9b}1m\0", &[]), "a\\u{1b}[2Jb\\rc\\u{9b}1m\\u{0}");
        let heading = format!("{}: \x1b[2J", paint("steps", "1", true));
        assert_eq!(harmless(&heading, &DRESS), "\x1b[1msteps\x1b[0m: \\u{1b}[2J");
        assert_eq!(harmless("\x1b[1m", &[]), "\\u{1b}[1m");
    }
}
