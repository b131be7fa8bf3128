//! Rule: the rooms depend on one another in one direction.

use super::tree::Tree;
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "room-order",
    reason: "Each room can be understood, tested and replaced without those above it.",
    check,
};

/// Every package of the workspace and the packages of the workspace that it may depend on.
const ROOMS: &[(&str, &[&str])] = &[
    ("recurve-kernels", &[]),
    // In its tests.
    ("recurve-ptx", &["recurve-kernels"]),
    ("recurve-scheduler", &[]),
    ("recurve", &["recurve-kernels", "recurve-ptx", "recurve-scheduler"]),
    ("recurve-cli", BELOW_THE_TOP),
    ("recurve-tests", BELOW_THE_TOP),
    ("recurve-benches", BELOW_THE_TOP),
    // `cargo xtask ptx` reads what kernels declare, and writes the manifest in its own types.
    ("xtask", &["recurve-kernels", "recurve-ptx"]),
];

const BELOW_THE_TOP: &[&str] = &["recurve", "recurve-kernels", "recurve-ptx", "recurve-scheduler"];

fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in tree.metadata.members() {
        let path = manifest(&package.manifest_path);
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == package.name) else {
            let advice = format!("`{}` has no place in the order: add it to the rule's ROOMS", package.name);
            violations.push(Violation::new(&path, 1, advice));
            continue;
        };
        let inner = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
        for dependency in inner.filter(|dependency| !allowed.contains(&dependency.name.as_str())) {
            let advice = format!("`{}` must not depend on `{}`", package.name, dependency.name);
            violations.push(Violation::new(&path, 1, advice));
        }
    }
    violations
}

/// The manifest's path as `room/Cargo.toml`.
fn manifest(path: &std::path::Path) -> String {
    let room = path.parent().and_then(|folder| folder.file_name()).unwrap_or_default();
    format!("{}/Cargo.toml", room.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::workspace::{Dependency, Metadata, Package};

    fn tree(name: &str, dependencies: &[(&str, bool)]) -> Tree {
        let dependency = |&(name, inner): &(&str, bool)| Dependency {
            name: name.to_owned(),
            path: inner.then(|| PathBuf::from(name)),
        };
        let package = Package {
            id: name.to_owned(),
            name: name.to_owned(),
            dependencies: dependencies.iter().map(dependency).collect(),
            manifest_path: PathBuf::from("checkout/room/Cargo.toml"),
            ..Package::default()
        };
        let mut tree = Tree::of(&[]);
        tree.metadata = Metadata {
            packages: vec![package],
            workspace_members: vec![name.to_owned()],
            ..Metadata::default()
        };
        tree
    }

    #[test]
    fn an_upward_dependency_is_found() {
        assert_eq!(check(&tree("recurve", &[("recurve-kernels", true), ("serde", false)])), []);
        let found = check(&tree("recurve-kernels", &[("recurve-ptx", true)]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "room/Cargo.toml");
        assert_eq!(check(&tree("recurve-tests", &[("recurve-cli", true)])).len(), 1);
    }

    #[test]
    fn a_room_without_a_place_is_found() {
        assert_eq!(check(&tree("recurve-attic", &[])).len(), 1);
    }
}
