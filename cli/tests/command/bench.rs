//! `recurve bench`.

use crate::{data, recurve, scratch, text};
use recurve_cli::Exit;

#[test]
fn a_measurement_is_kept_and_compared() {
    let (_folder, path) = scratch("before.json");
    let (model, kept) = (data("biased.onnx"), text(&path));
    let short = ["bench", &model, "--threads", "1", "--seconds", "0.02"];
    let ended = recurve(&[&short[..], &["--out", &kept, "--json"]].concat()).with(Exit::Success);
    let document = ended.document();
    assert_eq!(document["rounds_us"].as_array().map(Vec::len), Some(9));
    assert!(document["runs"].as_u64() >= Some(9));
    assert!(document["latency_us"]["p50"].as_f64() > Some(0.0));
    assert!(document["flops"].as_f64() > Some(0.0));
    let file: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).expect("written")).expect("a document");
    assert_eq!(file, document);

    // A baseline that everything beats, and one that nothing does.
    for (p50, exit) in [(1e9, Exit::Success), (1e-6, Exit::Slower)] {
        let mut before = document.clone();
        before["latency_us"]["p50"] = p50.into();
        std::fs::write(&path, before.to_string()).expect("written");
        let compared = [&short[..], &["--baseline", &kept, "--assert", "5%"]].concat();
        let ended = recurve(&compared).with(exit);
        ended.prints("baseline");
        ended.prints("p50 of each round");
        ended.prints("A multiplication and an addition are two operations.");
        let said = recurve(&[&compared[..], &["--json"]].concat()).with(exit).document();
        assert_eq!(said["baseline"]["passed"], (exit == Exit::Success), "{said}");
    }
}

#[test]
fn a_baseline_of_something_else_is_refused() {
    let (_folder, path) = scratch("before.json");
    let (model, kept) = (data("biased.onnx"), text(&path));
    let short = ["bench", &model, "--threads", "1", "--seconds", "0.01"];
    recurve(&[&short[..], &["--out", &kept, "-q"]].concat()).with(Exit::Success);
    let compared = [&short[..], &["--baseline", &kept]].concat();
    recurve(&compared).with(Exit::Success);
    let larger = [&compared[..], &["--dim", "batch=3"]].concat();
    recurve(&larger).with(Exit::Model).says("the baseline was measured with other inputs");
    let threads = ["bench", &model, "--threads", "2", "--seconds", "0.01", "--baseline", &kept];
    recurve(&threads).with(Exit::Model).says("the baseline was measured with other threads: 1, now 2");
    let stored = [&compared[..], &["--precision", "f16"]].concat();
    recurve(&stored).with(Exit::Model).says("the baseline was measured with other precision");
    let apart = [&compared[..], &["--no-fusion"]].concat();
    recurve(&apart).with(Exit::Model).says("the baseline was measured with other fusion");
    let mut other: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).expect("written")).expect("a document");
    other["model"] = "another".into();
    std::fs::write(&path, other.to_string()).expect("written");
    recurve(&compared).with(Exit::Model).says("another model file");
    std::fs::write(&path, "{}").expect("written");
    let ended = recurve(&compared).with(Exit::Model);
    ended.says("is no measurement");
    ended.says("hint: `recurve bench MODEL --out F.json`");
    recurve(&[&short[..], &["--assert", "5%"]].concat()).with(Exit::Usage).says("--baseline");
    recurve(&[&compared[..], &["--assert", "-5%"]].concat())
        .with(Exit::Usage)
        .says("a percentage of at least 0");
    recurve(&["bench", &model, "--seconds", "-1"]).with(Exit::Usage).says("seconds above 0");
}
