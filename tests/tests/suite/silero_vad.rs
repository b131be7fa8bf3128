//! A real recurrent model, where it lies beside the checkout: every window against ONNX Runtime.

use recurve::{Session, Tensor};
use recurve_tests::npz;
use std::path::PathBuf;

const WINDOW: usize = 512;
/// Samples of the window before that each window starts with.
const CONTEXT: usize = 64;
const TOLERANCE: f32 = 1e-4;
const WINDOWS: usize = 302;

struct Speech {
    session: Session,
    windows: Vec<Tensor>,
    probability: Vec<f32>,
    final_state: Vec<f32>,
}

/// The model, its inputs and its expected answers; `None` where the folder is not there.
fn speech() -> Option<Speech> {
    let model = model()?;
    let folder = model.parent()?;
    let session = Session::builder().with_threads(2).load(&model).expect("loads");
    let wav = std::fs::read(folder.join("speech16k.wav")).expect("the speech");
    let samples: Vec<f32> = data_chunk(&wav)
        .chunks_exact(2)
        .map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0)
        .collect();
    let padded: Vec<f32> = [0.0; CONTEXT].into_iter().chain(samples.iter().copied()).collect();
    let windows = (0..samples.len() / WINDOW)
        .map(|i| padded[i * WINDOW..][..WINDOW + CONTEXT].to_vec())
        .map(|window| Tensor::new(&[1, WINDOW + CONTEXT], window).expect("a tensor"))
        .collect();
    let expected = |name| npz::floats(&folder.join("expected.npz"), name).expect("an expected array");
    let (probability, final_state) = (expected("probability"), expected("final_state"));
    Some(Speech { session, windows, probability, final_state })
}

/// The model's file, where it lies beside the checkout.
pub(crate) fn model() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/models/silero-vad");
    if !folder.is_dir() {
        println!("skipped: there is no ../shared/models/silero-vad beside the checkout");
        return None;
    }
    Some(folder.join("silero_vad.onnx"))
}

/// The samples of a RIFF file.
fn data_chunk(wav: &[u8]) -> &[u8] {
    let mut rest = &wav[12..];
    loop {
        let length = u32::from_le_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize;
        if &rest[..4] == b"data" {
            return &rest[8..8 + length];
        }
        rest = &rest[8 + length.next_multiple_of(2)..];
    }
}

fn rate() -> Tensor {
    Tensor::scalar(16_000i64)
}

impl Speech {
    fn check(&self, probabilities: &[f32], state: &Tensor) {
        assert_eq!(probabilities.len(), WINDOWS);
        let differ = |got: &[f32], want: &[f32]| {
            assert_eq!(got.len(), want.len());
            got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max)
        };
        let worst = differ(probabilities, &self.probability);
        assert!(worst <= TOLERANCE, "a probability is off by {worst}");
        assert_eq!(state.shape(), [2, 1, 128]);
        let worst = differ(&state.to_vec::<f32>().expect("floats"), &self.final_state);
        assert!(worst <= TOLERANCE, "the final state is off by {worst}");
    }
}

#[test]
fn probabilities_through_run() {
    let Some(speech) = speech() else { return };
    let mut state = Tensor::new(&[2, 1, 128], vec![0f32; 256]).expect("a tensor");
    let mut probabilities = Vec::new();
    for window in &speech.windows {
        let inputs = [("input", window), ("state", &state), ("sr", &rate())];
        let outputs = speech.session.run(inputs).expect("runs");
        probabilities.push(outputs.tensor("output").expect("output").to_vec::<f32>().expect("floats")[0]);
        state = outputs.tensor("stateN").expect("stateN").clone();
    }
    speech.check(&probabilities, &state);
}

#[test]
fn probabilities_through_a_stream() {
    let Some(speech) = speech() else { return };
    let mut stream = speech.session.stream().expect("stateN feeds state");
    // The model leaves the batch of its state open where no input names it.
    stream
        .set_state("state", Tensor::new(&[2, 1, 128], vec![0f32; 256]).expect("a tensor"))
        .expect("a state");
    let mut probabilities = Vec::new();
    for window in &speech.windows {
        let outputs = stream.run([("input", window), ("sr", &rate())]).expect("runs");
        probabilities.push(outputs.tensor("output").expect("output").to_vec::<f32>().expect("floats")[0]);
    }
    let state = stream.state("state").and_then(|value| value.as_tensor()).expect("a state").clone();
    speech.check(&probabilities, &state);
}
