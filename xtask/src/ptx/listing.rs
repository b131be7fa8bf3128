//! The compiler's PTX as a committed module: names that do not change from build to build, the launch bounds of each
//! entry, and no banner.
//!
//! ```text
//! .visible .entry gemm_f32(
//!     .param .align 8 .b8 gemm_f32_param_0[96]
//! )
//! .maxntid 256, 1, 1          inserted
//! .minnctapersm 2             inserted
//! {
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use recurve_kernels::kernel::Kernel;

/// A module's text and what stands in it.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) text: String,
    /// The PTX version, `8.1`.
    pub(super) version: String,
    /// By name.
    pub(super) entries: Vec<Entry>,
}

/// One entry and its parameter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) params: usize,
    pub(super) params_align: usize,
}

/// Makes a module of the compiler's output; its entries must be exactly `kernels`, which are sorted, and those of
/// `omitted`, which are left out.
pub(super) fn finish(compiled: &str, kernels: &[&Kernel], omitted: &[&str]) -> Result<Listing> {
    let mut text = String::with_capacity(compiled.len());
    let mut version = None;
    let mut entries = Vec::new();
    let mut open: Option<String> = None;
    let mut leaving_out = false;
    let entries_of_all = kernels.iter().map(|kernel| kernel.entry).chain(omitted.iter().copied());
    let mut names = Names { entries: entries_of_all.collect(), ..Names::default() };
    for line in compiled.lines() {
        let line = line.split_once("//").map_or(line, |(code, _)| code).trim_end();
        if line.is_empty() || line == "\t" {
            continue;
        }
        if let Some(number) = line.strip_prefix(".version ") {
            version = Some(number.to_owned());
        }
        // Functions have no mark that they synchronise threads, so that a call could be copied into both branches of a
        // condition; and their arguments pass through memory.
        if line.split_whitespace().any(|word| word == ".func") {
            bail!("`{}` is not inlined: mark what entries call `#[inline(always)]`", line.trim());
        }
        if let Some(head) = line.strip_prefix(".visible .entry ") {
            let name = head.trim_end_matches(['(', ')']);
            leaving_out = omitted.contains(&name);
            open = (!leaving_out).then(|| name.to_owned());
        }
        if leaving_out {
            leaving_out = line != "}";
            continue;
        }
        if let (Some(name), Some(parameter)) = (&open, line.trim_start().strip_prefix(".param ")) {
            ensure!(!line.ends_with(','), "{name} takes more than one parameter");
            let (params, params_align) = size_and_alignment(parameter)
                .with_context(|| format!("cannot read the parameter of {name}: `{parameter}`"))?;
            entries.push(Entry { name: name.clone(), params, params_align });
        }
        names.write(line, &mut text);
        text.push('\n');
        if open.is_some() && line.starts_with(')') {
            let name = open.take().unwrap_or_default();
            let kernel = kernels.iter().find(|kernel| kernel.entry == name);
            let kernel = kernel.with_context(|| format!("the table of kernels does not have `{name}`"))?;
            writeln!(text, ".maxntid {}, 1, 1", kernel.max_threads)?;
            if kernel.min_blocks > 0 {
                writeln!(text, ".minnctapersm {}", kernel.min_blocks)?;
            }
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    for kernel in kernels {
        if !entries.iter().any(|entry| entry.name == kernel.entry) {
            bail!("the compiler's output has no entry `{}`", kernel.entry);
        }
    }
    ensure!(entries.len() == kernels.len(), "an entry appears twice");
    Ok(Listing { text, version: version.context("the compiler's output has no .version")?, entries })
}

/// Bytes and alignment of `.align 8 .b8 name[24]`, or of a scalar `.u64 name`.
fn size_and_alignment(parameter: &str) -> Option<(usize, usize)> {
    let mut words = parameter.split_whitespace();
    match words.next()? {
        ".align" => {
            let alignment = words.next()?.parse().ok()?;
            let (_, count) = words.last()?.trim_end_matches(']').split_once('[')?;
            Some((count.parse().ok()?, alignment))
        }
        scalar => {
            let bits: usize = scalar.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok()?;
            Some((bits / 8, bits / 8))
        }
    }
}

/// Mangled names hold hashes of the compiler and of paths; each is replaced by a number in the order of appearance. Tables
/// of an entry that the compiler has made of a `match` have numbers of the whole module, and are counted in their entry
/// instead: the text of an entry is the same in every module then, and is kept once.
#[derive(Default)]
struct Names<'a> {
    short: BTreeMap<String, String>,
    locals: usize,
    /// Names of entries, and how many tables each has.
    entries: Vec<&'a str>,
    tables: BTreeMap<&'a str, usize>,
}

/// What the compiler's names of tables begin with; behind it the entry's name, and a number for all but its first one.
const TABLE: &str = "switch_$_table_$_";

impl Names<'_> {
    /// A name in the place of `name`, if it has to be another one.
    fn stable(&mut self, name: &str) -> Option<&str> {
        let table = name.strip_prefix(TABLE);
        if table.is_none() && !["_ZN", "_R", "anon"].iter().any(|mangled| name.starts_with(mangled)) {
            return None;
        }
        if !self.short.contains_key(name) {
            // The longest name of an entry that it begins with: names may be the beginnings of others.
            let entry = table.and_then(|table| {
                let fitting = self.entries.iter().filter(|entry| table.starts_with(**entry));
                fitting.max_by_key(|entry| entry.len()).copied()
            });
            let short = if let Some(entry) = entry {
                let number = self.tables.entry(entry).or_default();
                *number += 1;
                format!("table_{number}_of_{entry}")
            } else {
                self.locals += 1;
                format!("local_{}", self.locals - 1)
            };
            self.short.insert(name.to_owned(), short);
        }
        self.short.get(name).map(String::as_str)
    }

    fn write(&mut self, line: &str, text: &mut String) {
        let mut rest = line;
        while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic() || "_$%.".contains(c)) {
            let (before, tail) = rest.split_at(at);
            let length =
                tail.find(|c: char| !(c.is_ascii_alphanumeric() || "_$%.".contains(c))).unwrap_or(tail.len());
            let (name, after) = tail.split_at(length);
            text.push_str(before);
            text.push_str(self.stable(name).unwrap_or(name));
            rest = after;
        }
        text.push_str(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPILED: &str = "//\n// Generated by LLVM\n//\n\n.version 8.1\n.target sm_90a\n.address_size 64\n\n\
        \t// .globl\tcopy\n.visible .entry copy(\n\t.param .align 8 .b8 copy_param_0[24]\n)\n{\n\
        \tcall _ZN4core9panicking17h0123E, ();\n\tret;                                    // tail\n}\n\
        .visible .entry axpy(\n\t.param .u64 axpy_param_0\n)\n{\n\tcall _ZN4core9panicking17h0123E, ();\n\tret;\n}\n";

    fn kernels() -> [Kernel; 2] {
        [Kernel::new::<u64>("axpy", 128), Kernel::new::<[u64; 3]>("copy", 256).with_min_blocks(2)]
    }

    #[test]
    fn bounds_stand_behind_the_parameters_and_names_do_not_change() {
        let [axpy, copy] = kernels();
        let listing = finish(COMPILED, &[&axpy, &copy], &[]).expect("a module");
        let expected = ".version 8.1\n.target sm_90a\n.address_size 64\n.visible .entry copy(\n\
            \t.param .align 8 .b8 copy_param_0[24]\n)\n.maxntid 256, 1, 1\n.minnctapersm 2\n{\n\
            \tcall local_0, ();\n\tret;\n}\n.visible .entry axpy(\n\t.param .u64 axpy_param_0\n)\n\
            .maxntid 128, 1, 1\n{\n\tcall local_0, ();\n\tret;\n}\n";
        assert_eq!(listing.text, expected);
        assert_eq!(listing.version, "8.1");
        let copied = Entry { name: "copy".to_owned(), params: 24, params_align: 8 };
        let scalar = Entry { name: "axpy".to_owned(), params: 8, params_align: 8 };
        assert_eq!(listing.entries, [scalar, copied]);
    }

    #[test]
    fn tables_are_counted_in_their_entry() {
        let [axpy, copy] = kernels();
        let with_tables = |numbers: [&str; 2]| {
            let of = |table: &str, n: &str| {
                format!(".global .b8 switch_$_table_$_{table}{n}[4] = {{4, 0, 8, 1}};\n")
            };
            let head = [of("copy", ""), of("copy", numbers[0]), of("axpy", numbers[1])].concat();
            let body = format!("\tmov.b64 %rd1, switch_$_table_$_copy{};\n\tret;  ", numbers[0]);
            let compiled = COMPILED.replace(".visible .entry copy", &format!("{head}.visible .entry copy"));
            finish(&compiled.replacen("\tret;  ", &body, 1), &[&axpy, &copy], &[]).expect("a module").text
        };
        let text = with_tables(["647", "3"]);
        assert_eq!(text, with_tables(["87", ""]));
        for line in [
            ".global .b8 table_1_of_copy[4] = {4, 0, 8, 1};",
            ".global .b8 table_2_of_copy[4] = {4, 0, 8, 1};",
            ".global .b8 table_1_of_axpy[4] = {4, 0, 8, 1};",
            "\tmov.b64 %rd1, table_2_of_copy;",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
    }

    #[test]
    fn functions_that_are_not_inlined_are_refused() {
        let [axpy, copy] = kernels();
        let with_function = format!("{COMPILED}.func helper()\n{{\n\tret;\n}}\n");
        assert!(finish(&with_function, &[&axpy, &copy], &[]).is_err());
    }

    #[test]
    fn entries_of_later_processors_are_left_out() {
        let [axpy, _] = kernels();
        let listing = finish(COMPILED, &[&axpy], &["copy"]).expect("a module");
        let expected = ".version 8.1\n.target sm_90a\n.address_size 64\n.visible .entry axpy(\n\
            \t.param .u64 axpy_param_0\n)\n.maxntid 128, 1, 1\n{\n\tcall local_0, ();\n\tret;\n}\n";
        assert_eq!(listing.text, expected);
    }

    #[test]
    fn entries_and_kernels_must_be_the_same() {
        let [axpy, copy] = kernels();
        let scale = Kernel::new::<u64>("scale", 128);
        assert!(finish(COMPILED, &[&axpy], &[]).is_err());
        assert!(finish(COMPILED, &[&axpy, &copy, &scale], &[]).is_err());
    }
}
