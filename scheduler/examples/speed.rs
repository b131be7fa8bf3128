//! Moves per second of the local search, for a profiler.
use recurve_scheduler::generate::{CpuTasks, Layered, Planted, layered, planted};
use recurve_scheduler::{Budget, Problem, Search};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (p, _) = planted(Planted { tasks: 190, cpus: 2, rho: 1.2, cpu_tasks: CpuTasks::Slower, seed: 37 });
    let l = layered(Layered { tasks: 500, edges: 1500, cpus: 4, gpus: 1, seed: 1 });
    for instance in [p, l] {
        let problem = Problem::new(&instance)?;
        let began = std::time::Instant::now();
        let search = Search { seed: 1, budget: Budget::Evaluations(100_000) };
        let found = problem.least_makespan(search).ok_or("none")?;
        println!("{:.1} {} {:?}", found.schedule.makespan, found.evaluations, began.elapsed());
    }
    Ok(())
}
