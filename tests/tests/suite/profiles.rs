//! Profiles are kept whole: whoever reads the cache sees all that was stored, whatever else happens.

use recurve::profiles::{Machine, Measured, OperatorCost, Profile, ProfileCache, ProfileError};
use recurve::{Error, ErrorKind};
use std::fs;

/// A profile of one signature.
fn profile(signature: &str, us: f64) -> Profile {
    let m = Measured { median_us: us, min_us: us, p90_us: us, runs: 3 };
    let lanes = [("cpu:1".to_owned(), m)].into();
    let mut profile = Profile::empty();
    let cost = OperatorCost { flops: Some(1.0), lanes, ..OperatorCost::default() };
    profile.operators.insert(signature.to_owned(), cost);
    profile
}

#[test]
fn writers_beside_each_other_lose_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = ProfileCache::at(folder.path().join("not").join("yet"));
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let cache = &cache;
            scope.spawn(move || {
                for i in 0..5 {
                    cache.store(&profile(&format!("op {writer} {i}"), 1.0)).expect("stored");
                    let read = cache.load();
                    assert!(
                        read.operators.contains_key(&format!("op {writer} {i}")),
                        "a reader sees its own"
                    );
                }
            });
        }
    });
    assert_eq!(cache.load().operators.len(), 40);
    let sum = cache.store(&profile("op 0 0", 2.0)).expect("stored");
    assert_eq!(sum.operators["op 0 0"].lanes["cpu:1"].median_us, 2.0, "the later measurement counts");
    assert_eq!(sum, cache.load());
}

#[test]
fn a_file_that_cannot_be_used_is_ignored_and_written_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = ProfileCache::at(folder.path());
    let good = profile("op", 1.0);
    let other_machine = Profile {
        machine: Machine { cores: good.machine.cores + 1, ..good.machine.clone() },
        ..good.clone()
    };
    let old = Profile { recurve: "0.0.1".to_owned(), ..good.clone() };
    let newer = Profile { version: 99, ..good.clone() };
    // What version 1 holds of waking threads was timed while they still polled.
    let older = Profile { version: 1, ..good.clone() };
    assert!(
        matches!(Profile::from_json(&older.to_json()), Err(ProfileError::Other { what }) if what.contains("version 1"))
    );
    let mut negative = good.clone();
    negative.operators.get_mut("op").expect("there").lanes.get_mut("cpu:1").expect("there").min_us = -1.0;
    let text = good.to_json();
    let half = text[..text.len() / 2].to_owned();
    for damaged in [
        String::new(),
        "{}".to_owned(),
        "\u{1}garbage".to_owned(),
        half,
        other_machine.to_json(),
        old.to_json(),
        newer.to_json(),
        older.to_json(),
        negative.to_json(),
    ] {
        fs::write(cache.file(), &damaged).expect("written");
        assert_eq!(cache.load(), Profile::empty(), "{damaged}");
        cache.store(&good).expect("stored");
        assert_eq!(cache.load(), good);
    }
    fs::write(cache.file(), [0xff, 0xfe, 0x00]).expect("written");
    assert_eq!(cache.load(), Profile::empty());
}

/// The place of the new file leads to a device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_what_was_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = ProfileCache::at(folder.path());
    let good = profile("op", 1.0);
    cache.store(&good).expect("stored");
    let made = cache.file().with_extension("new");
    std::os::unix::fs::symlink("/dev/full", &made).expect("a link");
    let error = cache.store(&profile("another", 1.0)).expect_err("full");
    assert!(
        matches!(&error, ProfileError::Io { source, .. } if source.raw_os_error() == Some(28)),
        "{error:?}"
    );
    assert_eq!(Error::from(error).kind(), ErrorKind::Io);
    assert_eq!(cache.load(), good);
    assert!(!made.exists(), "what was begun is gone");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    let cache = ProfileCache::at(file.join("cache"));
    assert!(matches!(cache.store(&profile("op", 1.0)), Err(ProfileError::Io { .. })));
    assert_eq!(cache.load(), Profile::empty());
}

#[test]
fn profiles_of_other_machines_are_read_and_told_apart() {
    let mut there = profile("op", 1.0);
    there.machine.processor = "another".to_owned();
    let read = Profile::from_json(&there.to_json()).expect("its own document");
    assert_eq!(read, there);
    assert!(matches!(read.check_here(), Err(ProfileError::Other { .. })));
    assert!(profile("op", 1.0).check_here().is_ok());
    assert_eq!(there.hash(), read.hash());
    assert_ne!(there.hash(), profile("op", 1.0).hash());
}
