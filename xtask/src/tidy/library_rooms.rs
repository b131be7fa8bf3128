//! Rule: the protobuf library is named in one room only.

use super::rust_text::has_word;
use super::tree::Tree;
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "protobuf-room",
    reason: "Only the reader sees protobuf types, so that the file format can never shape the graph.",
    check,
};

const ROOM: &str = "runtime/src/onnx";

fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    let inside = |path: &str| {
        path.strip_prefix(ROOM).is_some_and(|rest| rest.starts_with('/') || rest.starts_with(".rs"))
    };
    for file in tree.rust_files().filter(|file| !inside(&file.path)) {
        for (line, code) in file.code_lines().filter(|(_, code)| has_word(code, "prost")) {
            let advice = format!("`{}`: take the typed graph from {ROOM} instead", code.trim());
            violations.push(Violation::new(&file.path, line, advice));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mention_outside_the_reader_is_found() {
        let text = "//! X, as prost has it.\nuse prost::Message;\n";
        let tree = Tree::of(&[
            ("runtime/src/onnx/proto.rs", text),
            ("runtime/src/onnx.rs", text),
            ("runtime/src/onnxish.rs", text),
            ("cli/src/main.rs", "use recurve::Session;\n"),
        ]);
        let found = check(&tree);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].path.as_str(), found[0].line), ("runtime/src/onnxish.rs", 2));
    }
}
