//! The committed example model against the answers of ONNX Runtime.

use recurve::{Session, Tensor};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Deserialize)]
struct Case {
    question: String,
    answer: String,
}

struct Addition {
    session: Session,
    vocabulary: Vec<char>,
    cases: Vec<Case>,
}

fn load() -> Addition {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/addition");
    let session = Session::builder().with_threads(2).load(folder.join("addition.onnx")).expect("loads");
    let custom = &session.metadata().custom;
    let vocabulary = custom.iter().find(|(key, _)| key == "vocabulary").expect("a vocabulary");
    let vocabulary = vocabulary.1.chars().collect();
    let cases = std::fs::read_to_string(folder.join("cases.json")).expect("the cases");
    let cases = serde_json::from_str(&cases).expect("well-formed");
    Addition { session, vocabulary, cases }
}

impl Addition {
    fn token(&self, c: char) -> i64 {
        self.vocabulary.iter().position(|&v| v == c).expect("a character of the vocabulary") as i64
    }

    /// The state before a question of `batch` rows.
    fn state(&self, batch: usize) -> Tensor {
        let spec = self.session.inputs().iter().find(|spec| &*spec.name == "h").expect("input h");
        let shape = spec.fact.tensor().and_then(|fact| fact.shape.clone()).expect("a shape");
        let hidden = shape[2].known().expect("a known width");
        Tensor::new(&[1, batch, hidden], vec![0f32; batch * hidden]).expect("a tensor")
    }

    /// The answers in `tokens`, of shape [time, batch].
    fn answers(&self, tokens: &Tensor) -> Vec<String> {
        let [time, batch] = *tokens.shape() else { panic!("answer of shape {:?}", tokens.shape()) };
        let tokens = tokens.to_vec::<i64>().expect("int64 tokens");
        (0..batch)
            .map(|row| {
                let text: String =
                    (0..time).map(|t| self.vocabulary[tokens[t * batch + row] as usize]).collect();
                text.trim_end().to_owned()
            })
            .collect()
    }

    fn run(&self, questions: &[&str]) -> Vec<String> {
        let (time, batch) = (questions[0].len(), questions.len());
        let rows: Vec<Vec<char>> = questions.iter().map(|q| q.chars().collect()).collect();
        let tokens =
            (0..time).flat_map(|t| rows.iter().map(move |row| row[t])).map(|c| self.token(c)).collect();
        let question = Tensor::new(&[time, batch], tokens).expect("a tensor");
        let state = self.state(batch);
        let outputs = self.session.run([("question", &question), ("h", &state), ("c", &state)]);
        self.answers(outputs.expect("runs").tensor("answer").expect("an answer"))
    }
}

#[test]
fn answers_one_by_one() {
    let addition = load();
    assert!(addition.cases.len() >= 100, "{} cases", addition.cases.len());
    for case in &addition.cases {
        assert_eq!(addition.run(&[&case.question]), [case.answer.clone()], "{}", case.question);
    }
}

#[test]
fn answers_in_batches_of_equal_length() {
    let addition = load();
    let mut by_length: BTreeMap<usize, Vec<&Case>> = BTreeMap::new();
    for case in &addition.cases {
        by_length.entry(case.question.len()).or_default().push(case);
    }
    for cases in by_length.into_values() {
        let questions: Vec<&str> = cases.iter().map(|case| case.question.as_str()).collect();
        let wanted: Vec<&str> = cases.iter().map(|case| case.answer.as_str()).collect();
        assert_eq!(addition.run(&questions), wanted);
    }
}

#[test]
fn answers_when_the_question_comes_character_by_character() {
    let addition = load();
    let mut stream = addition.session.stream().expect("h_out feeds h, c_out feeds c");
    assert_eq!(stream.pairs().collect::<Vec<_>>(), [("h_out", "h"), ("c_out", "c")]);
    for case in &addition.cases {
        stream.reset();
        let mut answer = None;
        for c in case.question.chars() {
            let question = Tensor::new(&[1, 1], vec![addition.token(c)]).expect("a tensor");
            answer = Some(stream.run([("question", &question)]).expect("runs"));
        }
        let answer = answer.expect("a question has characters");
        let answers = addition.answers(answer.tensor("answer").expect("an answer"));
        assert_eq!(answers, [case.answer.clone()], "{}", case.question);
    }
}
