//! Rule: names say the algorithm, not that it is better than another.

use super::rust_text::words;
use super::tree::Tree;
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "algorithm-words",
    reason: "A name such as `split_k` stays true when the next variant comes, `fast` and `v2` do not.",
    check,
};

/// Words that praise or number a variant. `new` is one in a file's name, but is what constructors are called.
const PRAISE: [&str; 7] = ["fast", "faster", "fastest", "optimized", "optimised", "improved", "better"];
const NUMBERS: [&str; 4] = ["v2", "v3", "v4", "v5"];
/// In PTX `v2` and `v4` are the widths of a vector access.
const ROOMS_OF_PTX: [&str; 2] = ["kernels", "ptx"];
const DECLARATIONS: [&str; 9] =
    ["fn", "struct", "enum", "trait", "mod", "type", "const", "static", "macro_rules"];
const PYTHON_DECLARATIONS: [&str; 2] = ["def", "class"];

fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.files().iter().filter(|file| file.is_rust() || file.extension() == "py") {
        let ptx = ROOMS_OF_PTX.contains(&file.room());
        let banned = |part: &str| PRAISE.contains(&part) || (!ptx && NUMBERS.contains(&part));
        let declarations = if file.is_rust() { &DECLARATIONS[..] } else { &PYTHON_DECLARATIONS };
        let in_name = parts(file.stem()).into_iter().find(|part| banned(part) || part == "new");
        if let Some(part) = in_name {
            let advice = format!("`{part}` in the file's name: name the algorithm");
            violations.push(Violation::new(&file.path, 1, advice));
        }
        for (line, code) in file.code_lines() {
            for (word, name) in words(code).zip(words(code).skip(1)) {
                if declarations.contains(&word)
                    && let Some(part) = parts(name).into_iter().find(|part| banned(part))
                {
                    let advice = format!("`{part}` in `{name}`: name the algorithm");
                    violations.push(Violation::new(&file.path, line, advice));
                }
            }
        }
    }
    violations
}

/// The words of an identifier in snake or camel case, in lower case: `FastGemmV2` is `fast`, `gemm`, `v2`.
fn parts(identifier: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut lower_before = false;
    for c in identifier.chars() {
        let starts = c == '_' || c == '-' || (c.is_uppercase() && lower_before);
        if starts {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut().filter(|_| c != '_' && c != '-') {
            part.extend(c.to_lowercase());
        }
        lower_before = c.is_lowercase();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).into_iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn praise_and_numbers_are_found_in_declared_names() {
        assert_eq!(lines("a/x.rs", "fn fast_gemm() {}\nstruct OptimizedGemm;\nfn gemm_v2() {}\n"), [1, 2, 3]);
        assert_eq!(lines("benches/x.py", "def faster(): pass\n"), [1]);
        assert_eq!(lines("a/gemm_new.rs", ""), [1]);
        assert_eq!(lines("a/fast.rs", ""), [1]);
    }

    #[test]
    fn constructors_prose_and_vector_widths_are_not() {
        assert_eq!(lines("a/x.rs", "fn new() {}\nfn breakfast() {}\n// fn fast_x\nlet fast = 1;\n"), [0; 0]);
        assert_eq!(lines("kernels/src/x.rs", "fn load_v2() {}\n"), [0; 0]);
    }

    #[test]
    fn identifiers_split_at_underscores_and_capitals() {
        assert_eq!(parts("FastGemmV2"), ["fast", "gemm", "v2"]);
        assert_eq!(parts("FAST_MATH"), ["fast", "math"]);
    }
}
