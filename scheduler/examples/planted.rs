//! The portfolio and HEFT against planted optima: 200 instances of 20–200 tasks per form.
//!
//! usage: planted [200ms | EVALUATIONS] [INSTANCES]
use recurve_scheduler::generate::{CpuTasks, Planted, planted};
use recurve_scheduler::{Algorithm, Problem, Search};

#[path = "../tests/cases/budget.rs"]
mod budget;

/// Makespans over the optimum, and the moves evaluated.
struct Row {
    portfolio: f64,
    heft: f64,
    links: f64,
    spec: Planted,
    evaluations: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let budget = budget::budget(args.next().as_deref())?;
    let count: u64 = args.next().map_or(Ok(200), |a| a.parse())?;
    let mut out = Vec::new();
    for form in [CpuTasks::Faster, CpuTasks::Slower] {
        let mut rows: Vec<Row> = Vec::new();
        for i in 0..count {
            let spec = Planted {
                tasks: 20 + (i as usize * 180) / (count as usize - 1).max(1),
                cpus: 1 + (i % 3) as usize,
                rho: [1.2, 2.0, 4.0][(i / 3 % 3) as usize],
                cpu_tasks: form,
                seed: i,
            };
            let (instance, optimum) = planted(spec);
            let problem = Problem::new(&instance)?;
            let heft = Algorithm::Heft.schedule(&problem).ok_or("no schedule")?.makespan / optimum;
            let links = Algorithm::HeftLinks.schedule(&problem).ok_or("no schedule")?.makespan / optimum;
            let search = Search { seed: 1, budget };
            let found = problem.least_makespan(search)?;
            let verdict = found.schedule.validate(&instance)?;
            assert!(verdict.makespan >= optimum * 0.999_999, "shorter than the optimum");
            let portfolio = found.schedule.makespan / optimum;
            rows.push(Row { portfolio, heft, links, spec, evaluations: found.evaluations });
        }
        let mean = |f: &dyn Fn(&Row) -> f64| rows.iter().map(f).sum::<f64>() / rows.len() as f64;
        let max = |f: &dyn Fn(&Row) -> f64| rows.iter().map(f).fold(0.0, f64::max);
        out.push(format!(
            "{form:?}: portfolio mean {:.4} max {:.4}; heft mean {:.4} max {:.4}; heft-links mean {:.4} max {:.4}; {:.0} evaluations",
            mean(&|r| r.portfolio), max(&|r| r.portfolio), mean(&|r| r.heft), max(&|r| r.heft), mean(&|r| r.links), max(&|r| r.links), mean(&|r| r.evaluations as f64)
        ));
        rows.sort_by(|a, b| b.portfolio.total_cmp(&a.portfolio));
        for r in rows.iter().take(6) {
            out.push(format!("  {:.4} (heft {:.4}) {:?} {}", r.portfolio, r.heft, r.spec, r.evaluations));
        }
    }
    println!("{}", out.join("\n"));
    Ok(())
}
