//! What a run did, as trace events in the form in which `recurve plan --trace` writes what it should do.

use recurve::RunEvent;
use serde_json::{Value, json};

/// The trace document of one run on `threads` threads: a row for each, on which a node that all shared stands everywhere.
pub(crate) fn document(events: &[RunEvent], threads: usize) -> Value {
    let micros = |time: std::time::Duration| time.as_secs_f64() * 1e6;
    let begin = events.iter().map(|e| micros(e.start)).fold(f64::INFINITY, f64::min);
    let rows = 0..threads;
    let mut written: Vec<Value> = rows
        .clone()
        .flat_map(|row| {
            let name = format!("cpu{row}");
            [
                json!({"name": "thread_name", "ph": "M", "pid": 1, "tid": row, "args": {"name": name}}),
                json!({"name": "thread_sort_index", "ph": "M", "pid": 1, "tid": row, "args": {"sort_index": row}}),
            ]
        })
        .collect();
    for event in events {
        let processor = event.worker.map_or_else(|| "cpu*".to_owned(), |worker| format!("cpu{worker}"));
        for row in rows.clone().filter(|row| event.worker.is_none_or(|worker| worker == *row)) {
            written.push(json!({
                "name": *event.name, "cat": "task", "ph": "X", "pid": 1, "tid": row,
                "ts": micros(event.start) - begin, "dur": micros(event.took),
                "args": {"processor": processor, "operator": event.op}
            }));
        }
    }
    json!({"traceEvents": written, "displayTimeUnit": "ns"})
}
