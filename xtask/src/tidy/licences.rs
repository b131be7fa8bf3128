//! Rule: every package that is linked or built with has a licence that fits MIT OR Apache-2.0.

use super::spdx;
use super::tree::Tree;
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "licences",
    reason: "Users take the engine under MIT or Apache-2.0 and must be able to take all of it so.",
    check,
};

/// Licences that ask for no more than a notice.
const ALLOWED: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

fn check(tree: &Tree) -> Vec<Violation> {
    let allowed = |licence: &str| ALLOWED.contains(&licence);
    let mut violations = Vec::new();
    for package in &tree.metadata.packages {
        let name = format!("{} {}", package.name, package.version);
        let advice = match &package.license {
            None => format!("{name} states no licence: do without it"),
            Some(expression) => match spdx::permits(expression, &allowed) {
                Ok(true) => continue,
                Ok(false) => format!("{name} is under `{expression}`: do without it"),
                Err(error) => format!("{name} has the licence `{expression}`: {error}"),
            },
        };
        violations.push(Violation::new("Cargo.lock", 1, advice));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Metadata, Package};

    #[test]
    fn packages_without_a_fitting_licence_are_found() {
        let package = |name: &str, license: Option<&str>| Package {
            name: name.to_owned(),
            license: license.map(str::to_owned),
            ..Package::default()
        };
        let mut tree = Tree::of(&[]);
        tree.metadata = Metadata {
            packages: vec![
                package("a", Some("MIT OR Apache-2.0")),
                package("b", Some("GPL-3.0-only")),
                package("c", None),
                package("d", Some("MIT AND")),
            ],
            workspace_members: Vec::new(),
            ..Metadata::default()
        };
        let found = check(&tree);
        assert_eq!(found.len(), 3);
        assert!(found[0].advice.contains("GPL-3.0-only"), "{found:?}");
        assert!(found[1].advice.contains("no licence"), "{found:?}");
        assert!(found[2].advice.contains("ends too early"), "{found:?}");
    }
}
