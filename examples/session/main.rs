//! The program that the README shows: a model is loaded, run once, and its answer printed.

use recurve::{Error, Session, Tensor};

fn main() -> Result<(), Error> {
    let session = Session::builder().with_threads(2).load("examples/addition/addition.onnx")?;
    let question = Tensor::new(&[6, 1], vec![3i64, 4, 7, 10, 5, 8])?; // "347+58"
    let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?;
    let outputs = session.run([("question", &question), ("h", &state), ("c", &state)])?;
    println!("{:?}", outputs.tensor("answer")?.as_slice::<i64>()); // Some([4, 0, 5, 11, 11]): "405  "
    Ok(())
}
