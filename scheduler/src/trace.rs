//! A schedule in the trace event format that Chrome and Perfetto read: one thread per unit and channel. O(bars).

use serde_json::{Value, json};

use crate::Problem;
use crate::problem::NONE;
use crate::schedule::Schedule;

/// The trace document.
pub fn trace(problem: &Problem, schedule: &Schedule) -> Value {
    let names = &problem.names;
    let mut events = Vec::new();
    let rows = names.units.iter().chain(&names.channels).map(String::as_str).chain(["(no channel)"]);
    for (row, name) in rows.enumerate() {
        events.push(json!({"name": "thread_name", "ph": "M", "pid": 1, "tid": row, "args": {"name": name}}));
        let order = json!({"sort_index": row});
        events.push(json!({"name": "thread_sort_index", "ph": "M", "pid": 1, "tid": row, "args": order}));
    }
    for (t, run) in schedule.runs.iter().enumerate() {
        for &u in problem.units.row(run.processor as usize) {
            let processor = &names.processors[run.processor as usize];
            events.push(json!({
                "name": names.tasks[t], "cat": "task", "ph": "X", "pid": 1, "tid": u,
                "ts": run.start, "dur": run.finish - run.start, "args": {"processor": processor}
            }));
        }
    }
    for v in &schedule.transfers {
        let channel = match problem.routes.channel(v.from as usize, v.to as usize) {
            NONE => problem.channel_count,
            c => c as usize,
        };
        let bytes = problem.tensor_bytes[v.tensor as usize];
        events.push(json!({
            "name": names.tensors[v.tensor as usize], "cat": "transfer", "ph": "X", "pid": 1,
            "tid": problem.unit_count + channel, "ts": v.start, "dur": v.finish - v.start,
            "args": {
                "from": names.memories[v.from as usize], "to": names.memories[v.to as usize], "bytes": bytes
            }
        }));
    }
    json!({"traceEvents": events, "displayTimeUnit": "ns"})
}
