//! Rule: every operator's definition is in the operator table.
//!
//! An operator file declares `pub(super) const DEF: OpDef = …`; the table lists it as `&lstm::DEF`, or by
//! its whole path below `ops`, `&nn::lstm::DEF`, which it must do where two files have the same name. A list
//! of definitions in one file (`static DEFS: &[OpDef]`) counts in the same way.

use super::rust_text::{line_of, words};
use super::tree::{File, Tree};
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "operator-table",
    reason: "An operator that the table does not list exists for no user, test, bench or document.",
    check,
};

const FOLDER: &str = "runtime/src/ops/";
const TABLE: &str = "runtime/src/ops/table.rs";
/// The type whose constants are definitions.
const DEFINITION: &str = "OpDef";

fn check(tree: &Tree) -> Vec<Violation> {
    let table: String = tree
        .file(TABLE)
        .map(|file| file.code.chars().filter(|c| !c.is_whitespace()).collect())
        .unwrap_or_default();
    let operators: Vec<&File> = tree
        .rust_files()
        .filter(|file| file.path.starts_with(FOLDER) && file.path != TABLE && file.stem() != "mod")
        .collect();
    let mut violations = Vec::new();
    for file in &operators {
        let module = module_path(file);
        let alone = operators.iter().filter(|other| other.stem() == file.stem()).count() == 1;
        for (name, line) in definitions(file) {
            let listed = lists(&table, &format!("{module}::{name}"))
                || (alone && lists(&table, &format!("{}::{name}", file.stem())));
            if !listed {
                let advice = format!("add `&{module}::{name}` to {TABLE}");
                violations.push(Violation::new(&file.path, line, advice));
            }
        }
    }
    violations
}

/// `runtime/src/ops/nn/lstm.rs` is `nn::lstm`.
fn module_path(file: &File) -> String {
    file.path.trim_start_matches(FOLDER).trim_end_matches(".rs").replace('/', "::")
}

/// Whether the table, free of white space, has `path` as a whole path's end.
fn lists(table: &str, path: &str) -> bool {
    table.match_indices(path).any(|(at, _)| {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let before = table[..at].chars().next_back().is_some_and(word);
        let after = table[at + path.len()..].chars().next().is_some_and(word);
        !before && !after
    })
}

/// The constants and statics of the definition's type, or of lists of it, with their lines.
fn definitions(file: &File) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for keyword in ["const ", "static "] {
        for (start, _) in file.code.match_indices(keyword) {
            let line = line_of(&file.code, start);
            let declaration = &file.code[start + keyword.len()..];
            let Some((name, rest)) = declaration.split_once(':') else { continue };
            let kind = rest.split(['=', ';', '{']).next().unwrap_or_default();
            let name = name.trim();
            let plain = words(name).eq([name]);
            if plain && words(kind).any(|word| word == DEFINITION) && !file.line_is_test(line) {
                found.push((name.to_owned(), line));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LSTM: &str = "//! LSTM.\npub(super) const DEF: OpDef = OpDef { name: \"LSTM\" };\n";

    fn found(files: &[(&str, &str)]) -> Vec<(String, usize)> {
        let violations = check(&Tree::of(files));
        violations.into_iter().map(|violation| (violation.path, violation.line)).collect()
    }

    #[test]
    fn a_definition_that_the_table_lacks_is_found() {
        let table = "pub static OPS: &[&OpDef] = &[&lstm::DEF, /* &gru::DEF */ &mygru::DEF];";
        let files = [
            ("runtime/src/ops/lstm.rs", LSTM),
            ("runtime/src/ops/gru.rs", LSTM),
            ("runtime/src/ops/definition.rs", "pub struct OpDef { name: &'static str }\n"),
            (TABLE, table),
        ];
        assert_eq!(found(&files), [("runtime/src/ops/gru.rs".to_owned(), 2)]);
        assert_eq!(found(&files[..1]), [("runtime/src/ops/lstm.rs".to_owned(), 2)]);
    }

    #[test]
    fn nested_modules_count_by_path_and_equal_names_need_it() {
        let nested =
            [("runtime/src/ops/nn/lstm.rs", LSTM), (TABLE, "pub static OPS: &[&OpDef] = &[&nn::lstm::DEF];")];
        assert_eq!(found(&nested), []);
        let equal = [
            ("runtime/src/ops/nn/lstm.rs", LSTM),
            ("runtime/src/ops/quantised/lstm.rs", LSTM),
            (TABLE, "pub static OPS: &[&OpDef] = &[&nn::lstm::DEF];"),
        ];
        assert_eq!(found(&equal), [("runtime/src/ops/quantised/lstm.rs".to_owned(), 2)]);
    }

    #[test]
    fn lists_of_definitions_count() {
        let list = "//! Maps.\npub(super) static DEFS: &[OpDef] = &[];\n";
        assert_eq!(found(&[("runtime/src/ops/map.rs", list)]), [("runtime/src/ops/map.rs".to_owned(), 2)]);
        assert_eq!(found(&[("runtime/src/ops/map.rs", list), (TABLE, "[map::DEFS]")]), []);
    }
}
