//! Rule: libraries that would shape everything around them are named in one room only, or not below the commands.

use super::rust_text::has_word;
use super::tree::Tree;
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "library-rooms",
    reason: "Only the reader sees protobuf types and only one module calls the driver, so that neither shapes the rest.",
    check,
};

/// A library, its room, and what stands in its place elsewhere.
const ROOMS: [(&str, &str, &str); 2] = [
    ("prost", "runtime/src/onnx", "take the typed graph from it"),
    ("cudarc", "runtime/src/cuda/driver", "go through its traits"),
];

/// Errors without types are for commands: the rooms below them do not depend on this.
const UNTYPED: &str = "anyhow";
const TYPED: [&str; 4] = ["recurve", "recurve-kernels", "recurve-ptx", "recurve-scheduler"];

fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    let typed = tree.metadata.members().filter(|package| TYPED.contains(&package.name.as_str()));
    for package in typed.filter(|package| package.dependencies.iter().any(|of| of.name == UNTYPED)) {
        let advice = format!("`{}` depends on {UNTYPED}: give its errors types", package.name);
        violations.push(Violation::new("Cargo.lock", 1, advice));
    }
    for (library, room, instead) in ROOMS {
        let inside = |path: &str| {
            path.strip_prefix(room).is_some_and(|rest| rest.starts_with('/') || rest.starts_with(".rs"))
        };
        for file in tree.rust_files().filter(|file| !inside(&file.path)) {
            for (line, code) in file.code_lines().filter(|(_, code)| has_word(code, library)) {
                let advice = format!("`{}`: {library} belongs to {room}; {instead}", code.trim());
                violations.push(Violation::new(&file.path, line, advice));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Dependency, Metadata, Package};

    #[test]
    fn a_library_with_errors_without_types_is_found() {
        let found = |name: &str| {
            let of = Dependency { name: UNTYPED.to_owned(), path: None };
            let (id, name) = (name.to_owned(), name.to_owned());
            let package = Package { id: id.clone(), name, dependencies: vec![of], ..Package::default() };
            let mut tree = Tree::of(&[]);
            tree.metadata =
                Metadata { packages: vec![package], workspace_members: vec![id], ..Metadata::default() };
            check(&tree).len()
        };
        assert_eq!((found("recurve"), found("recurve-cli")), (1, 0));
    }

    #[test]
    fn a_mention_outside_the_room_is_found() {
        let (text, driver) = ("//! X, as prost has it.\nuse prost::Message;\n", "use cudarc::driver::sys;\n");
        let tree = Tree::of(&[
            ("runtime/src/onnx/proto.rs", text),
            ("runtime/src/onnx.rs", text),
            ("runtime/src/onnxish.rs", text),
            ("runtime/src/cuda/driver/mod.rs", driver),
            ("runtime/src/cuda/graphs.rs", driver),
            ("cli/src/main.rs", "use recurve::Session;\n"),
        ]);
        let found: Vec<_> = check(&tree).into_iter().map(|v| (v.path, v.line)).collect();
        let expected = [("runtime/src/onnxish.rs", 2), ("runtime/src/cuda/graphs.rs", 1)];
        assert_eq!(found, expected.map(|(path, line)| (path.to_owned(), line)));
    }
}
