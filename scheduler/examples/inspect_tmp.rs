use recurve_scheduler::*;
fn main() {
    for f in std::env::args().skip(1) {
        let i = Instance::read(f.as_ref()).unwrap();
        let p = Problem::new(&i).unwrap();
        let t = std::time::Instant::now();
        let o = p.optimum(20_000_000).unwrap().unwrap();
        println!("{f}: optimum {} in {:?}; bounds {:?}", o.makespan, t.elapsed(), Bounds::new(&p));
        for e in [1000u64, 5000, 20000, 100000, 400000] {
            let t = std::time::Instant::now();
            let r: Vec<f64> = (1..6)
                .map(|seed| {
                    p.least_makespan(Search { seed, budget: Budget::Evaluations(e) })
                        .unwrap()
                        .schedule
                        .makespan
                        / o.makespan
                })
                .collect();
            println!("{e}: {r:.3?} {:?}", t.elapsed() / 5);
        }
        if std::env::var("SHOW").is_ok() {
            let show = |s: &Schedule| {
                let mut v: Vec<_> = s
                    .runs
                    .iter()
                    .enumerate()
                    .map(|(t, r)| {
                        (
                            r.start,
                            r.finish,
                            format!(
                                "{} on {}",
                                i.tasks[t].name, i.machine.processors[r.processor as usize].name
                            ),
                        )
                    })
                    .chain(s.transfers.iter().map(|m| {
                        (
                            m.start,
                            m.finish,
                            format!("  move {} to {}", i.tensors[m.tensor as usize].name, m.to),
                        )
                    }))
                    .collect();
                v.sort_by(|a, b| a.0.total_cmp(&b.0));
                for l in v {
                    println!("{:8.2} {:8.2} {}", l.0, l.1, l.2);
                }
            };
            println!("optimal");
            show(&o);
            println!("portfolio");
            show(&p.least_makespan(Search { seed: 1, budget: Budget::Evaluations(5000) }).unwrap().schedule);
            for t in &i.tasks {
                println!("{} {:?} reads {:?}", t.name, t.cost_us, t.reads);
            }
        }
    }
}
