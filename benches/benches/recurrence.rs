//! Recurrent layers: the sizes that other engines are compared on, uses that the operators' table draws, and, as the group
//! `recovered`, layers as exporters spell them beside the operator of the same size, which recovery makes of them.
//!
//! `cargo bench --package recurve-benches --bench recurrence`

mod measured;

use criterion::{Criterion, criterion_group, criterion_main};
use measured::{Case, measure, of_the_table};
use recurve_benches::recurrences::{Recurrence, operator};
use recurve_benches::spelled::{SPELLINGS, spelled};

/// Operator, steps, rows and units.
const SIZES: [(&str, [usize; 3]); 11] = [
    ("LSTM", [150, 1, 256]),
    ("LSTM", [25, 1, 512]),
    ("LSTM", [25, 1, 1024]),
    ("LSTM", [50, 1, 1536]),
    ("LSTM", [25, 1, 2048]),
    ("LSTM", [25, 8, 512]),
    ("LSTM", [25, 32, 512]),
    ("GRU", [1, 1, 512]),
    ("GRU", [150, 1, 1024]),
    ("GRU", [100, 1, 1536]),
    ("GRU", [50, 1, 2048]),
];

/// Steps of the layers that are checked.
const CHECKED: usize = 2;

fn recurrence(c: &mut Criterion) {
    let mut group = c.benchmark_group("recurrence");
    for (op, [time, batch, hidden]) in SIZES {
        let of = Recurrence { time, batch, hidden };
        let checked = Recurrence { time: time.min(CHECKED), ..of };
        let name = format!("{op}/{time}x{batch}x{hidden}");
        measure(&mut group, &Case { name, model: operator(op, of), checked: operator(op, checked) });
    }
    for op in ["LSTM", "GRU", "RNN"] {
        of_the_table(&mut group, op, &[1, 2, 3]);
    }
    group.finish();
}

/// Layers as exporters spell them take what their operators take.
fn recovered(c: &mut Criterion) {
    let mut group = c.benchmark_group("recovered");
    for op in ["LSTM", "GRU"] {
        for (time, batch, hidden) in [(16, 1, 128), (64, 1, 256), (16, 8, 128)] {
            let of = Recurrence { time, batch, hidden };
            let size = format!("{time}x{batch}x{hidden}");
            measure(&mut group, &Case::whole(format!("{op} operator/{size}"), operator(op, of)));
            for spelling in SPELLINGS {
                let name = format!("{op} {spelling:?}/{size}");
                measure(&mut group, &Case::whole(name, spelled(op, spelling, of)));
            }
        }
    }
    group.finish();
}

criterion_group!(benches, recurrence, recovered);
criterion_main!(benches);
