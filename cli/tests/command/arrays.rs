//! NPZ files that numpy wrote, and those that the command writes.

use crate::{data, recurve, scratch, text};
use recurve_cli::Exit;
use std::fs::File;
use std::io::{Read, Write};

#[test]
fn every_dtype_order_and_compression_is_read() {
    // Not compressed, little-endian, rows first; and compressed, big-endian, columns first.
    for file in ["plain.npz", "swapped.npz"] {
        let (model, inputs, expected) = (data("dtypes.onnx"), data(file), data("expected.npz"));
        let exact = ["--rtol", "0", "--atol", "0"];
        let ended =
            recurve(&[&["check", &model, "--inputs", &inputs, "--expect", &expected], &exact[..]].concat());
        let ended = ended.with(Exit::Success);
        assert_eq!(ended.out.matches("ok  y_").count(), 12, "{file}: {}", ended.out);
    }
}

#[test]
fn arrays_without_axes_are_read() {
    let ended = recurve(&["run", &data("odd_inputs.onnx"), "--inputs", &data("odd_inputs.npz"), "--json"]);
    let document = ended.with(Exit::Success).document();
    assert_eq!(document["outputs"][0]["summary"]["first"], serde_json::json!([1.0, 0.0, 2.0]));
    assert_eq!(document["outputs"][1]["shape"], serde_json::json!([]));
}

#[test]
fn arrays_and_bound_dimensions_must_agree() {
    let (model, inputs) = (data("biased.onnx"), data("biased_x.npz"));
    let agreed = ["run", &model, "--inputs", &inputs, "--dim", "batch=2", "-q"];
    recurve(&agreed).with(Exit::Success);
    let ended = recurve(&["run", &model, "--inputs", &inputs, "--dim", "batch=7", "-q"]).with(Exit::Usage);
    ended.says("--dim says batch=7, `x` has 2");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_error() {
    let ended =
        recurve(&["run", &data("biased.onnx"), "--outputs", "/dev/full", "-q"]).with(Exit::Unexpected);
    assert!(ended.err.starts_with("error: ") && !ended.err.contains("ZipWriter"), "{}", ended.err);
    assert_eq!(ended.err.matches("No space left").count(), 1, "{}", ended.err);
}

/// The members of an archive.
fn members(path: &str) -> Vec<(String, Vec<u8>)> {
    let mut archive = zip::ZipArchive::new(File::open(path).expect("a file")).expect("an archive");
    let mut members = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).expect("a member");
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).expect("its bytes");
        members.push((member.name().expect("its name").into_owned(), bytes));
    }
    members
}

#[test]
fn arrays_are_written_as_numpy_writes_them() {
    let (_folder, path) = scratch("y.npz");
    let written = text(&path);
    let (model, inputs) = (data("dtypes.onnx"), data("swapped.npz"));
    let ended = recurve(&["run", &model, "--inputs", &inputs, "--outputs", &written]).with(Exit::Success);
    ended.says("wrote");
    assert_eq!(members(&written), members(&data("expected.npz")), "byte for byte");
    recurve(&["check", &model, "--inputs", &inputs, "--expect", &written]).with(Exit::Success);
}

#[test]
fn text_is_read_and_written_as_numpy_does() {
    let (_folder, path) = scratch("y.npz");
    let (written, model) = (text(&path), data("words.onnx"));
    for inputs in [data("words_x.npz"), data("words_swapped.npz")] {
        recurve(&["run", &model, "--inputs", &inputs, "--outputs", &written]).with(Exit::Success);
        assert_eq!(members(&written), members(&data("words_y.npz")), "byte for byte");
        let check = ["check", &model, "--inputs", &inputs, "--expect"];
        recurve(&[&check[..], &[&written]].concat()).with(Exit::Success);
    }
    // Without any the hint is one that helps.
    recurve(&["run", &model]).with(Exit::Usage).says("hint: give it with --inputs");
    // Other texts differ.
    let (_folder, other) = scratch("z.npz");
    let file = File::create(&other).expect("a file");
    let mut archive = zip::ZipWriter::new(file);
    archive.start_file("y.npy", zip::write::SimpleFileOptions::default()).expect("a member");
    let (_, mut bytes) = members(&data("words_y.npz")).remove(0);
    *bytes.iter_mut().find(|byte| **byte == b'6').expect("the text `6`") = b'7';
    archive.write_all(&bytes).expect("its bytes");
    archive.finish().expect("an archive");
    let check = ["check", &model, "--inputs", &data("words_x.npz"), "--expect", &text(&other)];
    recurve(&check).with(Exit::OutputsDiffer).prints("7");
}

#[test]
fn what_is_no_plain_array_is_refused() {
    let refused = members(&data("refused.zip"));
    assert_eq!(refused.len(), 16);
    let reasons = [
        ("bytes", "which is bytes"),
        ("objects", "pickled"),
        ("complex", "complex"),
        ("fields", "fields"),
        ("raw", "bfloat16"),
        ("time", "a time"),
        ("cut", "ends after 23 of 24 bytes"),
        ("cut_header", "cut short"),
        ("long", "goes on after its 24 bytes"),
        ("magic", "is no NPY array"),
        ("version", "version 9"),
        ("huge", "more than this machine can address"),
        ("lying", "ends after"),
        ("no_dictionary", "no dictionary"),
        ("no_order", "no truth value"),
        ("no_character", "the number 0xffffffff where a character is meant"),
    ];
    for (member, bytes) in refused {
        let (_folder, path) = scratch("x.npz");
        let mut archive = zip::ZipWriter::new(File::create(&path).expect("a file"));
        archive.start_file("x.npy", zip::write::SimpleFileOptions::default()).expect("a member");
        archive.write_all(&bytes).expect("its bytes");
        archive.finish().expect("an archive");
        let ended = recurve(&["run", &data("biased.onnx"), "--inputs", &text(&path)]).with(Exit::Usage);
        let reason = reasons.iter().find(|(name, _)| member == format!("{name}.npy"));
        ended.says(reason.expect("a reason for each").1);
        ended.says("array `x`");
        ended.says("hint: `numpy.savez");
    }
}

#[test]
fn archives_that_are_none_are_refused() {
    let (_folder, path) = scratch("x.npz");
    std::fs::write(&path, b"PK\x03\x04 and nothing more").expect("a file");
    let ended = recurve(&["run", &data("biased.onnx"), "--inputs", &text(&path)]).with(Exit::Usage);
    ended.says("is no readable NPZ archive");
    // Each member must be an array.
    let mut archive = zip::ZipWriter::new(File::create(&path).expect("a file"));
    archive.start_file("x.txt", zip::write::SimpleFileOptions::default()).expect("a member");
    archive.finish().expect("an archive");
    let ended = recurve(&["run", &data("biased.onnx"), "--inputs", &text(&path)]).with(Exit::Usage);
    ended.says("`x.txt`");
    // A member whose bytes were damaged.
    let mut bytes = std::fs::read(data("biased_x.npz")).expect("a file");
    let at = bytes.len() / 2;
    bytes[at] ^= 0x55;
    std::fs::write(&path, bytes).expect("a file");
    let ended = recurve(&["run", &data("biased.onnx"), "--inputs", &text(&path)]).with(Exit::Usage);
    ended.says("error: ");
}

#[test]
fn a_single_array_is_told_by_its_name() {
    let (_folder, path) = scratch("x.npy");
    let (_, bytes) = &members(&data("biased_x.npz"))[0];
    std::fs::write(&path, bytes).expect("a file");
    let ended = recurve(&["run", &data("biased.onnx"), "--inputs", &text(&path)]).with(Exit::Usage);
    ended.says("is one NPY array, not an NPZ file of arrays with names");
    ended.says("hint: `numpy.savez");
}

#[test]
fn outputs_that_npz_does_not_have_are_refused_before_the_run() {
    let (_folder, path) = scratch("y.npz");
    let ended = recurve(&["run", &data("bf16.onnx"), "--outputs", &text(&path)]).with(Exit::Usage);
    ended.says("output `y` cannot be written to an NPZ file");
    ended.says("caused by: it is bfloat16, which NPY does not have");
    assert!(!path.exists());
    recurve(&["run", &data("bf16.onnx")]).with(Exit::Success).prints("bfloat16 [2]");
}
