//! The programs that do what a session's model does: the model as it is, and its rewrites for the shapes of some inputs.
//!
//! They share what was packed of the weights as far as they have operators and constants in common, so that a plan for other
//! shapes packs nothing again. Rewrites are kept as long as somebody follows them, the last that a plan was made with, or
//! would have been with any, until the next, and made again from the graph else.

use super::Session;
use crate::error::Error;
use crate::exec::{BuildContext, Program};
use crate::graph::{Fact, Graph, NodeError};
use crate::plan::{Rewrite, directions_apart};
use crate::precision::Storing;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// Shapes of whose rewrites somebody may still follow one.
const KEPT: usize = 8;

/// A program that does what the model does.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    pub(super) rewrite: String,
    pub(super) program: Arc<Program>,
}

/// The rewrites that were made for inputs of some facts, by their names.
type Made = (Vec<Fact>, Vec<(String, Weak<Program>)>);

/// What a session keeps of its rewrites.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    /// The graph with directions apart, which no shape changes.
    apart: OnceLock<Option<Graph>>,
    /// The latest first.
    made: Mutex<Vec<Made>>,
    /// What the last plan with a rewrite was made with: whoever follows it finds it made and bound.
    planned: Mutex<Option<Arc<Program>>>,
}

impl Rewritten {
    /// The program that was made before for these facts, or for any where it is the same for all.
    fn known(&self, facts: &[Fact], rewrite: Rewrite) -> Option<Arc<Program>> {
        let (any, name) = (!rewrite.depends_on_shapes(), rewrite.to_string());
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let mut of_facts = made.iter().filter(|(of, _)| any || of == facts);
        of_facts.find_map(|(_, programs)| programs.iter().find(|(own, _)| *own == name)?.1.upgrade())
    }

    /// Keeps the rewrite that a plan was made with.
    pub(super) fn keep_planned(&self, program: &Arc<Program>) {
        *self.planned.lock().unwrap_or_else(PoisonError::into_inner) = Some(program.clone());
    }

    /// All that are still followed.
    fn alive(&self) -> Vec<Arc<Program>> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.iter().flat_map(|(_, programs)| programs.iter().filter_map(|(_, p)| p.upgrade())).collect()
    }

    fn keep(&self, facts: &[Fact], variants: &[Variant]) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let mut programs: Vec<(String, Weak<Program>)> = Vec::new();
        if let Some(at) = made.iter().position(|(of, _)| of == facts) {
            programs = made.remove(at).1;
        }
        for Variant { rewrite, program } in variants {
            programs.retain(|(name, _)| name != rewrite);
            programs.push((rewrite.clone(), Arc::downgrade(program)));
        }
        made.insert(0, (facts.to_vec(), programs));
        made.truncate(KEPT);
    }
}

impl Session {
    /// The programs that do what the model does, of which a plan may take any: the model as it is, and its rewrites whose
    /// names are wanted. Where the memory limit does not suffice for one more, it is left out.
    pub(super) fn variants(
        &self,
        facts: &[Fact],
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Variant>, Error> {
        let own = self.cpu_program()?;
        let mut variants = vec![Variant { rewrite: "none".to_owned(), program: own.clone() }];
        // One thread alone runs nothing side by side.
        if self.engine.threads() == 1 && self.devices.usable().is_none() {
            return Ok(variants);
        }
        let storing = Storing::new(own.precision());
        let (budget, threads) = (&self.budget, self.engine.threads());
        let context = BuildContext { budget, threads, release: &|_| (), storing: &storing };
        let mut donors = self.rewritten.alive();
        donors.push(own.clone());
        for way in Rewrite::all(threads) {
            let rewrite = way.to_string();
            if !wanted(&rewrite) {
                continue;
            }
            if let Some(program) = self.rewritten.known(facts, way) {
                variants.push(Variant { rewrite, program });
                continue;
            }
            let apart = self.rewritten.apart.get_or_init(|| directions_apart(own.graph()));
            let Some(graph) = way.apply(own.graph(), apart.as_ref(), facts, budget) else { continue };
            match Program::build_like(graph, &donors, context) {
                Ok(program) => {
                    let program = Arc::new(program);
                    donors.push(program.clone());
                    variants.push(Variant { rewrite, program });
                }
                Err(error) => {
                    let error = NodeError::at_load(error);
                    tracing::info!(rewrite, %error, "a rewrite is not tried");
                }
            }
        }
        self.rewritten.keep(facts, &variants[1..]);
        Ok(variants)
    }
}
