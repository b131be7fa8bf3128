//! Exactly evaluated moves per second of processor time, for a profiler or a loaded machine.
//!
//! usage: moves [TASKS] [CPUS] [MOVES] [INSTANCE.json]
use recurve_scheduler::generate::{Layered, layered};
use recurve_scheduler::{Algorithm, Problem};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let tasks: usize = args.next().map_or(Ok(500), |a| a.parse())?;
    let cpus: usize = args.next().map_or(Ok(4), |a| a.parse())?;
    let moves: u64 = args.next().map_or(Ok(200_000), |a| a.parse())?;
    let spec = Layered { tasks, edges: 3 * tasks, cpus, gpus: 1 + usize::from(cpus == 16), seed: 1 };
    let problem = Problem::new(&layered(spec))?;
    if let Some(path) = args.next() {
        // The instance itself, for `scripts/heft.py`.
        std::fs::write(path, layered(spec).to_json()?)?;
    }
    let start = Algorithm::HeftLinks.schedule(&problem).ok_or("no schedule")?;
    let (began, ticks) = (std::time::Instant::now(), processor_ticks()?);
    start.evaluate_moves(&problem, moves, 1);
    let (wall, ticks) = (began.elapsed().as_secs_f64(), processor_ticks()? - ticks);
    let busy = ticks as f64 / 100.0;
    println!("{tasks} tasks, {cpus}+1 lanes: {moves} moves in {wall:.3} s, {busy:.2} s of processor time");
    println!(
        "{:.0} moves per second, {:.0} per second of processor time",
        moves as f64 / wall,
        moves as f64 / busy
    );
    Ok(())
}

/// User and system time of this process in hundredths of a second (Linux).
fn processor_ticks() -> Result<u64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let rest = stat.rsplit(')').next().ok_or("no process name")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}
