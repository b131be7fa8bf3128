//! Whole models give what they give with every operator left by itself: the models of the tests, and those of
//! `docs/fusion.md` that are there.

use half::f16;
use recurve::model::Fact;
use recurve::settings::{Fusion, Pinning};
use recurve::testing::Gen;
use recurve::values::Bool;
use recurve::{DType, Element, Engine, Session, Tensor, Value};
use recurve_tests::fusion_counts::ROWS;
use std::path::{Path, PathBuf};

/// Of the largest element of an output.
const TOLERANCE: f64 = 1e-4;

/// An input of `shapes`, or of small extents where they do not name it; integers are numbers of table entries, lengths, or
/// the rate of samples.
fn inputs(session: &Session, shapes: &[(&str, &[usize])], random: &mut Gen) -> Vec<(String, Tensor)> {
    let extent_of = |symbol: &str| 1 + symbol.bytes().map(usize::from).sum::<usize>() % 3;
    let draw = |name: &str, fact: &Fact| {
        let Fact::Tensor(fact) = fact else { panic!("{name} is no tensor") };
        let told = shapes.iter().find(|(told, _)| *told == name).map(|(_, shape)| shape.to_vec());
        let small = || {
            let dims = fact.shape.as_deref().expect("a rank");
            dims.iter().map(|d| d.known().or_else(|| d.as_symbol().map(extent_of)).unwrap_or(2)).collect()
        };
        let shape: Vec<usize> = told.unwrap_or_else(small);
        match fact.dtype {
            DType::I64 if name == "sr" => Tensor::new(&shape, vec![16_000i64; shape.iter().product()]),
            DType::I64 => Ok(random.tensor_in(DType::I64, &shape, 0.0, 2.0)),
            DType::I32 => Tensor::new(&shape, vec![1i32; shape.iter().product()]),
            dtype => Ok(random.tensor_in(dtype, &shape, -1.0, 1.0)),
        }
        .expect("as many values as the shape has")
    };
    let mut draw = draw;
    session.inputs().iter().map(|spec| (spec.name.to_string(), draw(&spec.name, &spec.fact))).collect()
}

/// The elements of a tensor as numbers.
fn numbers(tensor: &Tensor) -> Option<Vec<f64>> {
    fn of<T: Element>(tensor: &Tensor, number: impl Fn(T) -> f64) -> Option<Vec<f64>> {
        Some(tensor.to_vec::<T>()?.into_iter().map(number).collect())
    }
    match tensor.dtype() {
        DType::F64 => of::<f64>(tensor, |v| v),
        DType::F32 => of::<f32>(tensor, f64::from),
        DType::F16 => of::<f16>(tensor, f64::from),
        DType::I64 => of::<i64>(tensor, |v| v as f64),
        DType::I32 => of::<i32>(tensor, f64::from),
        DType::U8 => of::<u8>(tensor, f64::from),
        DType::Bool => of::<Bool>(tensor, |v| f64::from(u8::from(v.get()))),
        _ => None,
    }
}

/// Runs `path` in both ways on a few inputs; how many outputs were compared.
fn compare(path: &Path, shapes: &[(&str, &[usize])], engine: &Engine) -> usize {
    let name = path.display();
    let load = |fusion| {
        let builder = Session::builder().with_engine(engine).with_fusion(fusion);
        builder.load(path).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let (fused, plain) = (load(Fusion::On), load(Fusion::Off));
    let mut compared = 0;
    for seed in 0..2 {
        let given = inputs(&plain, shapes, &mut Gen::new(seed));
        let run = |session: &Session| {
            let given = given.iter().map(|(name, tensor)| (name.as_str(), tensor));
            session.run(given).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        let (got, want) = (run(&fused), run(&plain));
        for (output, want) in want.iter() {
            let (Some(want), Some(got)) = (want.as_tensor(), got.get(output).and_then(Value::as_tensor))
            else {
                panic!("{name}: {output} is no tensor");
            };
            assert_eq!((got.dtype(), got.shape()), (want.dtype(), want.shape()), "{name}: {output}");
            let [got, want] = [got, want].map(|tensor| {
                numbers(tensor).unwrap_or_else(|| panic!("{name}: {output} of {}", tensor.dtype()))
            });
            let largest = want.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
            assert!(largest.is_finite(), "{name}: {output} tells nothing apart");
            for (at, (got, want)) in got.iter().zip(&want).enumerate() {
                let near = (got - want).abs() <= TOLERANCE * largest || got.is_nan() && want.is_nan();
                assert!(near, "{name}: {output}[{at}] is {got} for {want}, the largest {largest}");
            }
            compared += usize::from(largest > 0.0);
        }
    }
    compared
}

#[test]
fn models_at_hand_give_what_their_operators_give() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let engine = Engine::builder().with_threads(2).with_pinning(Pinning::None).build().expect("an engine");
    let folder = root.join("tests/data/models");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("the models").map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    for path in &paths {
        assert!(compare(path, &[], &engine) > 0, "{}: nothing was compared", path.display());
    }
    for row in &ROWS {
        match row.path(&root) {
            Some(path) => assert!(compare(&path, row.shapes(), &engine) > 0, "{}", row.name),
            None => println!("skipped: {}, which is not there", row.name),
        }
    }
    assert!(ROWS[0].path(&root).is_some(), "the example is committed");
}
