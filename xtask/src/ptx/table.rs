//! `docs/kernels.md`: what each entry takes on each target, and how many of its blocks fit a multiprocessor.

use std::fmt::Write as _;

use recurve_ptx::{EntryRecord, Manifest, ModuleRecord, Usage};

/// What one multiprocessor has.
struct Multiprocessor {
    threads: u32,
    blocks: u32,
    shared: u32,
    /// Bytes of shared memory that the system keeps for each block.
    reserved: u32,
}

const REGISTERS: u32 = 64 * 1024;
const WARP: u32 = 32;
/// Registers are given to a warp in pieces of this many.
const REGISTER_PIECE: u32 = 256;

fn multiprocessor(capability: u32) -> Multiprocessor {
    match capability {
        75 => Multiprocessor { threads: 1024, blocks: 16, shared: 64 * 1024, reserved: 0 },
        80 => Multiprocessor { threads: 2048, blocks: 32, shared: 164 * 1024, reserved: 1024 },
        _ => Multiprocessor { threads: 2048, blocks: 32, shared: 228 * 1024, reserved: 1024 },
    }
}

/// Blocks of `threads` that are on one multiprocessor at once: the least of what its warps, registers and shared
/// memory allow.
fn resident_blocks(capability: u32, threads: u32, usage: &Usage, dynamic_shared: u32) -> u32 {
    let has = multiprocessor(capability);
    let warps = threads.div_ceil(WARP);
    let registers = (usage.registers * WARP).next_multiple_of(REGISTER_PIECE) * warps;
    let by_registers = REGISTERS.checked_div(registers).unwrap_or(has.blocks);
    let shared = usage.shared + dynamic_shared + has.reserved;
    let by_shared = has.shared.checked_div(shared).unwrap_or(has.blocks);
    has.blocks.min(has.threads / (warps * WARP)).min(by_registers).min(by_shared)
}

/// The whole page.
pub(super) fn render(manifest: &Manifest) -> String {
    let mut page = format!(
        "# Kernels\n\nWritten by `cargo xtask ptx`; CI checks that it is current.\n\n\
         Compiled by {}; assembled by ptxas {}. Where the assemblers differ, both numbers stand, in that order.\n\
         *Spills* are bytes stored and loaded, *shared* is static + most dynamic, *blocks* are those of the largest size and \
         most shared memory that fit one multiprocessor with the newest assembler's registers, *occupancy* the part of its threads \
         that they have.\n",
        manifest.compiler,
        manifest.assemblers.join(" and ")
    );
    for module in &manifest.modules {
        section(&mut page, module);
    }
    page
}

fn section(page: &mut String, module: &ModuleRecord) {
    let (major, minor) = (module.driver / 1000, module.driver % 1000 / 10);
    let _ = write!(
        page,
        "\n## {}\n\nPTX {}, for drivers of CUDA {major}.{minor} or newer; {}.\n\n\
         | entry | threads | registers | stack | spills | shared | blocks | occupancy | tensor-core instructions |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        module.target,
        module.ptx,
        if module.exact { "for this capability alone" } else { "later capabilities run it, too" },
    );
    for entry in &module.entries {
        row(page, module.capability, entry);
    }
}

fn row(page: &mut String, capability: u32, entry: &EntryRecord) {
    let each = |number: &dyn Fn(&Usage) -> String| {
        let mut all: Vec<String> = entry.usage.iter().map(number).collect();
        all.dedup();
        all.join(" / ")
    };
    let newest = entry.usage.last().copied().unwrap_or_default();
    let blocks = resident_blocks(capability, entry.max_threads, &newest, entry.dynamic_shared);
    let percent = blocks * entry.max_threads * 100 / multiprocessor(capability).threads;
    let _ = writeln!(
        page,
        "| {} | {} | {} | {} | {} | {} + {} | {blocks} | {percent} % | {} |",
        entry.name,
        entry.max_threads,
        each(&|usage| usage.registers.to_string()),
        each(&|usage| usage.stack.to_string()),
        each(&|usage| format!("{}, {}", usage.spill_stores, usage.spill_loads)),
        newest.shared,
        entry.dynamic_shared,
        entry.tensor_instructions,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_bound_by_threads_registers_or_shared_memory() {
        let usage = |registers, shared| Usage { registers, shared, ..Usage::default() };
        // The occupancy calculator of the CUDA documentation, compute capability 9.0.
        assert_eq!(resident_blocks(90, 256, &usage(32, 0), 0), 8);
        assert_eq!(resident_blocks(90, 256, &usage(128, 0), 0), 2);
        assert_eq!(resident_blocks(90, 256, &usage(33, 0), 0), 6);
        assert_eq!(resident_blocks(90, 128, &usage(32, 1024), 99 * 1024), 2);
        assert_eq!(resident_blocks(75, 1024, &usage(64, 0), 0), 1);
        assert_eq!(resident_blocks(80, 32, &usage(16, 0), 0), 32);
    }

    #[test]
    fn a_row_shows_both_assemblers_where_they_differ() {
        let usage = |registers| Usage { registers, ..Usage::default() };
        let entry = EntryRecord {
            name: "copy".to_owned(),
            params: 8,
            params_align: 8,
            max_threads: 256,
            min_blocks: 0,
            dynamic_shared: 64,
            tensor_instructions: 0,
            usage: vec![usage(40), usage(32)],
        };
        let mut page = String::new();
        row(&mut page, 90, &entry);
        assert_eq!(page, "| copy | 256 | 40 / 32 | 0 | 0, 0 | 0 + 64 | 8 | 100 % | 0 |\n");
    }
}
