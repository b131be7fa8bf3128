//! Distinct names of nodes. What rewrites make is named after what it reads, which several nodes may read.

use super::Graph;
use std::collections::HashMap;
use std::sync::Arc;

/// Puts a number behind the name of each node that one before it in the graph has.
pub(crate) fn distinct_names(graph: &mut Graph) {
    // For each name the last number that was tried behind it, so that many equal names take no more than one try each.
    let mut last: HashMap<Arc<str>, usize> = HashMap::with_capacity(graph.nodes.len());
    for node in &mut graph.nodes {
        let mut name = node.name.clone();
        while last.contains_key(&name) {
            let number = last.entry(node.name.clone()).or_insert(1);
            *number += 1;
            name = format!("{} {number}", node.name).into();
        }
        last.insert(name.clone(), 1);
        node.name = name;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Node;
    use crate::ops::{NEWEST_OPSET, attributes::NodeSpec, find};

    #[test]
    fn equal_names_are_numbered_past_those_that_are_taken() {
        let mut graph = Graph::default();
        let def = find("", "Relu", NEWEST_OPSET).expect("an operator");
        let spec =
            NodeSpec { attributes: Vec::new(), opset: NEWEST_OPSET, inputs: vec![true], outputs: vec![true] };
        let op = (def.parse)(&spec).expect("no attributes");
        for name in ["a", "a 2", "b", "a", "a"] {
            let (name, op) = (name.into(), op.clone());
            graph.nodes.push(Node { name, def: def.op_name(), op, inputs: Vec::new(), outputs: Vec::new() });
        }
        distinct_names(&mut graph);
        let names: Vec<&str> = graph.nodes.iter().map(|node| &*node.name).collect();
        assert_eq!(names, ["a", "a 2", "b", "a 3", "a 4"]);
    }
}
