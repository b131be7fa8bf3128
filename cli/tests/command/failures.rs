//! Exit codes, and what an error looks like.

use crate::{data, recurve, scratch, text};
use recurve_cli::Exit;
use std::time::{Duration, Instant};

#[test]
fn wrong_arguments_are_usage() {
    let model = data("biased.onnx");
    for arguments in [
        &["run"][..],
        &["frobnicate"],
        &["run", &model, "--frobnicate"],
        &["run", &model, "--runs", "0"],
        &["run", &model, "--memory-limit", "1 apple"],
        &["run", &model, "--color", "sometimes"],
        &["run", &model, "-q", "-v"],
    ] {
        let ended = recurve(arguments).with(Exit::Usage);
        assert_eq!(ended.out, "", "{arguments:?}");
        assert!(ended.err.starts_with("error: "), "{}", ended.err);
    }
    let many = recurve(&["run", &model, "--threads", "2000"]).with(Exit::Usage);
    many.says("hint: without --threads there is one thread for each core");
    assert!(!many.err.contains("note:"), "{}", many.err);
    recurve(&["run", &data("")]).with(Exit::Usage).says("is a folder");
    for (arguments, problem) in [
        (["run", "--threads", "-2"], "a whole number of at least 1"),
        (["run", "--threads", "0"], "a whole number of at least 1"),
        (["run", "--timeout", "0ms"], "a time above 0"),
        (["run", "--timeout", "100"], "with its unit, such as 5ms"),
        (
            ["run", "--precision", "half"],
            "'--precision <FORMAT>': `f32`, `f16`, `bf16`, `tf32` and `int8` are possible",
        ),
        (["run", "--device", "gpu"], "…, `cuda` for the first and `emulated` are possible"),
        (["run", "--fallback", "gpu"], "'--fallback <WHAT>': `deny` and `cpu` are possible"),
        (["plan", "--devices", "cpu,cpu"], "'--devices <A,B>': it names the CPU twice"),
        (["inspect", "--threads", "2"], "--threads is an option of `recurve run`"),
        (["plan", "--device", "cuda:0"], "tip: `recurve plan` takes --devices"),
        (["run", "--seed", "-1"], "a whole number of at least 0"),
        (["run", "--memory-limit", "-5"], "such as 512MiB is needed"),
        (["run", "--runs", "0"], "a whole number of at least 1"),
        (["run", "--runs", "-1"], "a whole number of at least 1"),
        (["run", "--warmup", "-1"], "a whole number of at least 0"),
        (["run", "--timeout", "-5"], "such as 5ms, is needed"),
        (["check", "--rtol", "-1"], "a number of at least 0"),
        (["check", "--atol", "-1"], "a number of at least 0"),
    ] {
        let [command, rest @ ..] = arguments;
        recurve(&[&[command, &model][..], &rest].concat()).with(Exit::Usage).says(problem);
    }
    let folder = recurve(&["run", &model, "--inputs", &data("")]).with(Exit::Usage);
    folder.says("is a folder");
    folder.says("hint: --inputs takes an NPZ file");
}

#[test]
fn inputs_that_do_not_fit_are_usage() {
    let x = data("odd_inputs.npz");
    let ended = recurve(&["run", &data("biased.onnx"), "--inputs", &x]).with(Exit::Usage);
    ended.says("which is no input of the model: x");
    let ended = recurve(&["run", &data("dtypes.onnx"), "--inputs", &data("wrong_dtype.npz"), "--json"]);
    let ended = ended.with(Exit::Usage);
    ended.says("error: input `f4`: is float64; float32 is expected");
    ended.says("hint: `recurve inspect MODEL` lists names and shapes");
    assert_eq!(ended.out, "");
    let ended = recurve(&["run", &data("biased.onnx"), "--inputs", &data("flat_x.npz")]).with(Exit::Usage);
    ended.says("has shape [6]; [batch, time, 4] is expected");
    // All that is wrong is said at once.
    let ended = recurve(&["run", &data("dtypes.onnx"), "--inputs", &data("two_wrong.npz")]).with(Exit::Usage);
    ended.says("error: 2 arguments do not fit the model");
    ended.says("caused by: input `f2`: is float64; float16 is expected");
    ended.says("caused by: input `f4`: is float64; float32 is expected");
}

#[test]
fn files_that_cannot_be_opened_are_usage() {
    let model = data("biased.onnx");
    let ended = recurve(&["run", &data("no_such.onnx")]).with(Exit::Usage);
    ended.says("error: cannot read `");
    ended.says("caused by: ");
    recurve(&["run", &model, "--inputs", &data("no_such.npz")]).with(Exit::Usage).says("cannot read `");
    let nowhere = data("no_such_folder/y.npz");
    recurve(&["run", &model, "--outputs", &nowhere]).with(Exit::Usage).says("cannot write `");
    recurve(&["schedule", &data("no_such.json")]).with(Exit::Usage).says("cannot read `");
    recurve(&["inspect", &model, "--svg", &data("no_such_folder/y.svg")])
        .with(Exit::Usage)
        .says("cannot write `");
    // Nothing is measured that could not be kept.
    let start = Instant::now();
    let far = ["bench", &model, "--seconds", "60", "--out", &nowhere];
    recurve(&far).with(Exit::Usage).says("cannot write `");
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn models_that_cannot_run_are_told_node_by_node() {
    for command in ["run", "inspect"] {
        let ended = recurve(&[command, &data("unknown.onnx"), "--json"]).with(Exit::Model);
        ended.says("unknown.onnx` cannot be loaded");
        ended.says("caused by: 2 of the model's nodes cannot run");
        ended.says("caused by: node `first` (Frobnicate, opset 17): ");
        ended.says("caused by: node `second` (Twiddle, opset 17): ");
        ended.says("hint: `recurve ops`");
        assert_eq!(ended.out, "");
    }
}

#[test]
fn what_is_no_model_is_an_invalid_model() {
    let (_folder, path) = scratch("cut.onnx");
    let whole = std::fs::read(data("biased.onnx")).expect("a model");
    std::fs::write(&path, &whole[..whole.len() - 9]).expect("a file");
    recurve(&["run", &text(&path)]).with(Exit::Model).says("caused by: not a valid ONNX model");
    for other in ["make.py", "plain.npz"] {
        let ended = recurve(&["inspect", &data(other)]).with(Exit::Model);
        ended.says(&format!("{other}` cannot be loaded"));
        ended.says("caused by: this is no ONNX model, but a file of another format\nhint: ");
    }
}

#[test]
fn a_deadline_ends_an_endless_loop() {
    let start = Instant::now();
    let ended = recurve(&["run", &data("endless.onnx"), "--timeout", "100ms", "--json"]).with(Exit::Timeout);
    assert!(start.elapsed() < Duration::from_secs(30));
    assert!(start.elapsed() >= Duration::from_millis(100));
    ended.says("error: the deadline passed");
    ended.says("hint: allow more time with --timeout");
    assert_eq!(ended.out, "");
    recurve(&["run", &data("biased.onnx"), "--timeout", "60s"]).with(Exit::Success);
    for command in ["bench", "profile", "plan"] {
        let ended = recurve(&[command, &data("endless.onnx"), "--timeout", "100ms"]);
        ended.with(Exit::Timeout).says("error: the deadline passed");
    }
}

#[test]
fn names_give_the_terminal_no_commands() {
    let ended = recurve(&["run", "\x1b[31mred.onnx", "--color", "always"]).with(Exit::Usage);
    ended.says("\\u{1b}[31mred.onnx");
    assert!(!ended.err.contains("\x1b[31m"), "{}", ended.err);
}

#[test]
fn memory_limits_hold() {
    let model = data("biased.onnx");
    let large = ["run", &model, "--dim", "batch=1000,time=100", "-q"];
    recurve(&large).with(Exit::Success);
    let ended = recurve(&[&large[..], &["--memory-limit", "1MiB"]].concat()).with(Exit::Unexpected);
    ended.says("memory limit of 1048576 bytes");
    ended.says("--memory-limit");
    // Inputs that no machine holds.
    let ended = recurve(&["run", &model, "--dim", "batch=4294967295,time=4294967295"]).with(Exit::Usage);
    ended.says("does not fit into memory");
    ended.says("hint: bind smaller dimensions with --dim");
    let ended = recurve(&["run", &model, "--dim", "batch=1,time=99999999999999999999"]).with(Exit::Usage);
    ended.says("`99999999999999999999` is no extent");
}

#[test]
fn codes_are_stable() {
    let codes = [
        (Exit::Success, 0),
        (Exit::Unexpected, 1),
        (Exit::Usage, 2),
        (Exit::Model, 3),
        (Exit::Device, 4),
        (Exit::OutputsDiffer, 5),
        (Exit::Slower, 6),
        (Exit::Timeout, 124),
    ];
    for (exit, code) in codes {
        assert_eq!(exit as i32, code);
    }
    use recurve::ErrorKind;
    for (kind, exit) in [
        (ErrorKind::Io, Exit::Usage),
        (ErrorKind::InvalidModel, Exit::Model),
        (ErrorKind::Unsupported, Exit::Model),
        (ErrorKind::InvalidInput, Exit::Usage),
        (ErrorKind::MemoryLimit, Exit::Unexpected),
        (ErrorKind::Deadline, Exit::Timeout),
        (ErrorKind::Cancelled, Exit::Unexpected),
        (ErrorKind::Internal, Exit::Unexpected),
    ] {
        assert_eq!(Exit::of(kind), exit);
    }
}
