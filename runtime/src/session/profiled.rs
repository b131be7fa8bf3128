//! Which nodes the signatures of a profile are of, and which it has none of.

use super::Session;
use super::planning::forms_of;
use super::run_options::RunOptions;
use super::variants::Variant;
use crate::cost::StepSignature;
use crate::error::Error;
use crate::graph::NodeError;
use crate::tensor::ValueRef;
use std::collections::HashSet;

/// A node, and the signature under which a profile has its times.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct ProfiledNode {
    /// Its name; of a node that a plan may put in the place of others, one that is made from theirs.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Its signature: a key of [`Profile::operators`](crate::profiles::Profile::operators). `None` where shapes depend on
    /// data, so that nothing is measured.
    pub signature: Option<String>,
}

impl Session {
    /// The nodes that run on these inputs in their order, which [`Session::profile`] measures, and behind them those of the
    /// forms that plans may give the model.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{Session, Tensor};
    /// let session = Session::builder().with_threads(1).load_bytes(MODEL)?;
    /// let question = Tensor::new(&[6, 1], vec![3i64, 4, 7, 10, 5, 8])?;
    /// let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?;
    /// let inputs = [("question", &question), ("h", &state), ("c", &state)];
    /// let nodes = session.profiled(inputs)?;
    /// assert!(nodes.iter().any(|node| node.op == "LSTM" && node.signature.is_some()));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn profiled<'a, V: Into<ValueRef<'a>>>(
        &self,
        inputs: impl IntoIterator<Item = (&'a str, V)>,
    ) -> Result<Vec<ProfiledNode>, Error> {
        self.with_values(inputs, Vec::new(), &RunOptions::default(), |values, context| {
            let variants = match forms_of(&self.inputs, values) {
                Some(forms) => self.variants(&self.facts_of(&forms)?, |_| true)?,
                None => vec![Variant { rewrite: "none".to_owned(), program: self.cpu_program()?.clone() }],
            };
            let (mut nodes, mut seen) = (Vec::new(), HashSet::new());
            for Variant { program, .. } in &variants {
                let bound = program.bind(values, context).map_err(NodeError::at_run)?;
                for step in 0..bound.step_count() {
                    let signature = bound.step_form(program, step).map(|form| StepSignature::of(&form).0);
                    let (name, op) = bound.step_name(program, step);
                    let node = ProfiledNode { name, op, signature };
                    if seen.insert(node.clone()) {
                        nodes.push(node);
                    }
                }
            }
            Ok(nodes)
        })
    }
}
