//! The embedded modules against the table of kernels and against their own manifest.

use recurve_kernels::kernel::KERNELS;

use super::*;

/// All modules together take at most this in a binary.
const CEILING: usize = 3 << 20;

#[test]
fn every_module_of_the_manifest_is_embedded_with_its_entries() {
    assert!(!manifest().modules.is_empty());
    assert_eq!(modules().count(), manifest().modules.len());
    assert_eq!(PIECES.len(), manifest().modules.len(), "a module that the manifest does not know");
    for module in modules() {
        let text = module.text().expect("a module that unpacks");
        let record = module.record();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("modules");
        let file = std::fs::read_to_string(folder.join(format!("{}.ptx", record.target)));
        assert!(file.is_ok_and(|file| file == text), "{}: what is embedded is not the file", record.target);
        assert!(text.contains(&format!(".version {}\n", record.ptx)), "{}", record.target);
        assert!(text.contains(&format!(".target {}\n", record.target)), "{}", record.target);
        let entries = text.matches(".visible .entry ").count();
        assert_eq!(entries, record.entries.len(), "{}", record.target);
        for entry in &record.entries {
            let head = format!(".visible .entry {}(", entry.name);
            assert!(text.contains(&head), "{}: {}", record.target, entry.name);
        }
    }
}

#[test]
fn every_kernel_has_an_entry_in_every_module_that_can_run_it() {
    for module in modules() {
        let record = module.record();
        let wanted: Vec<&str> = KERNELS
            .iter()
            .filter(|kernel| kernel.capability <= record.capability)
            .map(|kernel| kernel.entry)
            .collect();
        let found: Vec<&str> = record.entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(found, wanted, "{}", record.target);
    }
}

#[test]
fn parameters_and_bounds_are_those_that_the_kernels_declare() {
    for module in modules() {
        for kernel in KERNELS {
            let Some(entry) = module.entry(kernel.entry) else { continue };
            assert_eq!(entry.params, kernel.params, "{}", kernel.entry);
            assert_eq!(entry.max_threads, kernel.max_threads, "{}", kernel.entry);
            assert_eq!(entry.min_blocks, kernel.min_blocks, "{}", kernel.entry);
            assert_eq!(entry.dynamic_shared, kernel.shared, "{}", kernel.entry);
            assert_eq!(entry.tensor_instructions > 0, kernel.tensor_cores, "{}", kernel.entry);
            assert_eq!(entry.usage.len(), manifest().assemblers.len(), "{}", kernel.entry);
            for usage in &entry.usage {
                assert!(usage.outside_registers() <= kernel.spills, "{}: {usage:?}", kernel.entry);
                assert!(usage.registers * kernel.max_threads <= 64 * 1024, "{}: {usage:?}", kernel.entry);
            }
        }
    }
}

#[test]
fn a_processor_gets_the_module_made_for_it_or_the_nearest_below() {
    let target = |capability| module_for(capability).map(|module| module.record().target.as_str());
    assert_eq!(target(70), None);
    assert_eq!(target(75), Some("sm_75"));
    assert_eq!(target(80), Some("sm_80"));
    assert_eq!(target(89), Some("sm_80"));
    assert_eq!(target(90), Some("sm_90a"));
    assert_eq!(target(100), Some("sm_80"));
    assert_eq!(target(120), Some("sm_80"));
}

#[test]
fn the_modules_fit_the_binary() {
    assert!(STREAM.len() <= CEILING, "{} bytes", STREAM.len());
}

#[test]
fn the_families_have_each_entry_once() {
    for module in modules() {
        let names = |text: &str| -> Vec<String> {
            text.split(".visible .entry ")
                .skip(1)
                .filter_map(|t| Some(t.split('(').next()?.to_owned()))
                .collect()
        };
        let mut all = Vec::new();
        for family in module.families() {
            let text = module.text_of(family).expect("unpacks");
            assert!(text.starts_with(".version"), "{family}");
            let own = names(&text);
            assert!(!own.is_empty() && own.iter().all(|name| family_of(name) == family), "{family}: {own:?}");
            all.extend(own);
        }
        let mut whole = names(&module.text().expect("unpacks"));
        all.sort();
        whole.sort();
        assert_eq!(all, whole);
        assert!(module.families().count() > 1);
    }
}
