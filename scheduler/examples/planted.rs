//! The portfolio and HEFT against planted optima: 200 instances of 20–200 tasks per form.
//!
//! usage: planted [200ms | EVALUATIONS] [INSTANCES]
use recurve_scheduler::generate::{CpuTasks, Planted, planted};
use recurve_scheduler::{Algorithm, Problem, Search};

#[path = "../tests/cases/budget.rs"]
mod budget;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let budget = budget::budget(args.next().as_deref())?;
    let count: u64 = args.next().map_or(Ok(200), |a| a.parse())?;
    let mut out = Vec::new();
    for form in [CpuTasks::Faster, CpuTasks::Slower] {
        let mut rows: Vec<(f64, f64, f64, Planted, u64)> = Vec::new();
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
            rows.push((found.schedule.makespan / optimum, heft, links, spec, found.evaluations));
        }
        let mean = |f: &dyn Fn(&(f64, f64, f64, Planted, u64)) -> f64| {
            rows.iter().map(f).sum::<f64>() / rows.len() as f64
        };
        let max = |f: &dyn Fn(&(f64, f64, f64, Planted, u64)) -> f64| rows.iter().map(f).fold(0.0, f64::max);
        out.push(format!(
            "{form:?}: portfolio mean {:.4} max {:.4}; heft mean {:.4} max {:.4}; heft-links mean {:.4} max {:.4}; {:.0} evaluations",
            mean(&|r| r.0), max(&|r| r.0), mean(&|r| r.1), max(&|r| r.1), mean(&|r| r.2), max(&|r| r.2), mean(&|r| r.4 as f64)
        ));
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        for r in rows.iter().take(6) {
            out.push(format!("  {:.4} (heft {:.4}) {:?} {}", r.0, r.1, r.3, r.4));
        }
    }
    println!("{}", out.join("\n"));
    Ok(())
}
