//! Reads a sum such as `347+58` and lets the model write the answer, once in one call and once character by
//! character with the encoder's state kept by a stream.
//!
//! `cargo run --release --example addition -- 347+58`

use recurve::{Error, Session, Tensor};

/// The model, trained and exported by `train.py` in this folder.
const MODEL: &[u8] = include_bytes!("addition.onnx");

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    let question = arguments.next().unwrap_or_else(|| "347+58".to_owned());
    match answer(&question) {
        Ok(answer) => {
            println!("{question}={answer}");
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(inner) = cause {
                eprintln!("caused by: {inner}");
                cause = inner.source();
            }
            std::process::ExitCode::FAILURE
        }
    }
}

fn answer(question: &str) -> Result<String, Error> {
    let session = Session::builder().with_threads(1).load_bytes(MODEL)?;
    let tokens = encode(&session, question)?;

    // The whole question at once, from a zero state.
    let hidden =
        session.inputs()[1].fact.tensor().and_then(|f| f.shape.as_ref()?.last()?.known()).unwrap_or(0);
    let zeros = Tensor::new(&[1, 1, hidden], vec![0f32; hidden])?;
    let whole = Tensor::new(&[tokens.len(), 1], tokens.clone())?;
    let outputs = session.run([("question", &whole), ("h", &zeros), ("c", &zeros)])?;
    let at_once = decode(&session, outputs.tensor("answer")?);

    // Character by character: the stream feeds `h_out` and `c_out` back to `h` and `c`.
    let mut stream = session.stream()?;
    let mut streamed = String::new();
    for token in tokens {
        let character = Tensor::new(&[1, 1], vec![token])?;
        streamed = decode(&session, stream.run([("question", &character)])?.tensor("answer")?);
    }
    assert_eq!(at_once, streamed, "both ways of reading give one answer");
    Ok(at_once)
}

/// The model's alphabet: the position of a character is its token.
fn vocabulary(session: &Session) -> Vec<char> {
    let entry = session.metadata().custom.iter().find(|(key, _)| key == "vocabulary");
    entry.map(|(_, value)| value.chars().collect()).unwrap_or_default()
}

fn encode(session: &Session, question: &str) -> Result<Vec<i64>, Error> {
    let known = vocabulary(session);
    let token = |c: char| known.iter().position(|&k| k == c).map(|at| at as i64);
    let tokens: Option<Vec<i64>> = question.chars().map(token).collect();
    tokens.filter(|t| !t.is_empty()).ok_or_else(|| Error::Argument {
        role: "input",
        name: "question".into(),
        problem: format!("`{question}` is no sum of two numbers such as 347+58"),
    })
}

fn decode(session: &Session, answer: &Tensor) -> String {
    let known = vocabulary(session);
    let tokens = answer.to_vec::<i64>().unwrap_or_default();
    let text: String =
        tokens.iter().filter_map(|&t| usize::try_from(t).ok().and_then(|t| known.get(t))).collect();
    text.trim().to_owned()
}
