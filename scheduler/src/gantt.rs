//! A schedule as a Gantt chart: one row per unit, then one per channel, over a time axis.
//!
//! Tasks have the colour of their processor's memory in two alternating shades, gangs a dark border, transfers the
//! colour of the memory they fill. Names stand in bars that are wide enough; every bar has its name and times as
//! a tooltip, so that five tasks and five hundred can both be read. O(bars).

use std::fmt::Write as _;

use crate::Problem;
use crate::problem::NONE;
use crate::schedule::Schedule;

const LEFT: f64 = 130.0;
const WIDTH: f64 = 1400.0;
const ROW: f64 = 26.0;
const TOP: f64 = 52.0;
/// Width of a character of the labels.
const LETTER: f64 = 6.2;
/// Colours of memories: tasks in two shades, transfers into them.
const COLOURS: [[&str; 3]; 6] = [
    ["#9db8e0", "#b9cdea", "#4d7cc0"],
    ["#f0bd8a", "#f5d2b0", "#d9822b"],
    ["#9fd3a4", "#bce2bf", "#4a9d55"],
    ["#c9a8de", "#dac4e9", "#8c57b0"],
    ["#97d3cd", "#b8e2de", "#3a9b92"],
    ["#eda3b4", "#f3c0cb", "#cf4d6c"],
];

/// One bar.
struct Bar {
    row: usize,
    start: f64,
    finish: f64,
    name: String,
    fill: &'static str,
    gang: bool,
}

/// What a drawing calls what it shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GanttWords {
    /// The line at the top.
    pub title: String,
    /// What runs on a processor.
    pub task: String,
    /// What moves a tensor from memory to memory.
    pub transfer: String,
}

impl GanttWords {
    fn of(schedule: &Schedule) -> Self {
        let (tasks, transfers) = (schedule.runs.len(), schedule.transfers.len());
        let title = format!("makespan {:.3} µs, {tasks} tasks, {transfers} transfers", schedule.makespan);
        Self { title, task: "task".to_owned(), transfer: "transfer".to_owned() }
    }
}

/// Draws a schedule as SVG.
pub fn gantt(problem: &Problem, schedule: &Schedule) -> String {
    gantt_in_words(problem, schedule, &GanttWords::of(schedule))
}

/// Draws a schedule as SVG, with other words.
pub fn gantt_in_words(problem: &Problem, schedule: &Schedule, words: &GanttWords) -> String {
    let names = &problem.names;
    let bars = bars(problem, schedule);
    let end = bars.iter().map(|b| b.finish).fold(schedule.makespan, f64::max).max(f64::MIN_POSITIVE);
    let scale = WIDTH / end;
    let queueless = schedule.transfers.iter().any(|v| channel(problem, v.from, v.to).is_none());
    let mut rows: Vec<String> = names.units.iter().chain(&names.channels).cloned().collect();
    if queueless {
        rows.push("(no channel)".to_owned());
    }
    let bottom = TOP + ROW * rows.len() as f64;
    let (width, height) = (LEFT + WIDTH + 20.0, bottom + 40.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    legend(&mut svg, problem, words, !schedule.transfers.is_empty());
    for (i, row) in rows.iter().enumerate() {
        let y = TOP + ROW * i as f64;
        let shade = if i % 2 == 0 { "#f6f6f6" } else { "#ffffff" };
        let _ = writeln!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{ROW}\" fill=\"{shade}\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y + 17.0,
            escape(&clip(row, (LEFT - 12.0) / LETTER))
        );
    }
    axis(&mut svg, end, scale, bottom);
    for bar in &bars {
        let (x, w) = (LEFT + bar.start * scale, ((bar.finish - bar.start) * scale).max(0.5));
        let y = TOP + ROW * bar.row as f64 + 3.0;
        let stroke = if bar.gang { "#222" } else { "white" };
        let _ = write!(
            svg,
            "<g><title>{} {:.3} to {:.3} µs</title><rect x=\"{x:.2}\" y=\"{y}\" width=\"{w:.2}\" height=\"{}\" \
             fill=\"{}\" stroke=\"{stroke}\" stroke-width=\"0.4\"/>",
            escape(&bar.name),
            bar.start,
            bar.finish,
            ROW - 6.0,
            bar.fill
        );
        let room = (w - 4.0) / LETTER;
        if room >= 2.0 && room >= bar.name.chars().count().min(4) as f64 {
            let label = escape(&clip(&bar.name, room));
            let _ = write!(svg, "<text x=\"{:.2}\" y=\"{}\">{label}</text>", x + 2.0, y + 14.0);
        }
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn channel(problem: &Problem, from: u32, to: u32) -> Option<usize> {
    match problem.routes.channel(from as usize, to as usize) {
        NONE => None,
        c => Some(c as usize),
    }
}

fn colour(memory: usize, shade: usize) -> &'static str {
    COLOURS[memory % COLOURS.len()][shade]
}

fn bars(problem: &Problem, schedule: &Schedule) -> Vec<Bar> {
    let names = &problem.names;
    let mut bars = Vec::new();
    for (t, run) in schedule.runs.iter().enumerate() {
        let p = run.processor as usize;
        let units = problem.units.row(p);
        for &u in units {
            bars.push(Bar {
                row: u as usize,
                start: run.start,
                finish: run.finish,
                name: names.tasks[t].clone(),
                fill: colour(problem.memory_of(p), t % 2),
                gang: units.len() > 1,
            });
        }
    }
    for v in &schedule.transfers {
        let row = channel(problem, v.from, v.to).unwrap_or(problem.channel_count);
        bars.push(Bar {
            row: problem.unit_count + row,
            start: v.start,
            finish: v.finish,
            name: names.tensors[v.tensor as usize].clone(),
            fill: colour(v.to as usize, 2),
            gang: false,
        });
    }
    bars
}

fn legend(svg: &mut String, problem: &Problem, words: &GanttWords, transfers: bool) {
    let GanttWords { title, task, transfer } = words;
    let title = escape(title);
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"18\" font-size=\"13\">{title}</text>");
    let mut x = LEFT;
    for (m, name) in problem.names.memories.iter().enumerate() {
        let entries = [(format!("{task} in {name}"), 0), (format!("{transfer} to {name}"), 2)];
        for (text, shade) in entries.into_iter().take(if transfers { 2 } else { 1 }) {
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"26\" width=\"11\" height=\"11\" fill=\"{}\"/><text x=\"{}\" y=\"36\">{}</text>",
                colour(m, shade),
                x + 15.0,
                escape(&text)
            );
            x += 24.0 + LETTER * text.chars().count() as f64;
        }
    }
}

/// About ten ticks at 1, 2 or 5 times a power of ten.
fn axis(svg: &mut String, end: f64, scale: f64, bottom: f64) {
    let rough = end / 10.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|f| f * power).into_iter().find(|s| *s >= rough).unwrap_or(rough);
    let mut i = 0;
    while f64::from(i) * step <= end {
        let time = f64::from(i) * step;
        let x = LEFT + time * scale;
        let label =
            if step < 0.01 { format!("{time:e}") } else { format!("{}", (time * 1000.0).round() / 1000.0) };
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.2}\" y1=\"{TOP}\" x2=\"{x:.2}\" y2=\"{}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.2}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            bottom + 4.0,
            bottom + 17.0
        );
        i += 1;
    }
    let middle = LEFT + WIDTH / 2.0;
    let _ = writeln!(
        svg,
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">time in µs</text>",
        bottom + 33.0
    );
}

/// At most so many characters.
fn clip(text: &str, room: f64) -> String {
    if text.chars().count() as f64 <= room {
        text.to_owned()
    } else {
        text.chars().take(room as usize).collect()
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
