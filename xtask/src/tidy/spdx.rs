//! SPDX licence expressions: does one of the choices that they offer consist of allowed licences?
//!
//! ```text
//! any  = all { ("OR" | "/") all }       `/` is how cargo once wrote OR
//! all  = one { "AND" one }
//! one  = "(" any ")" | name [ "WITH" name ]
//! ```

use std::fmt::{self, Display, Formatter};

/// Whether `expression` can be met with licences for which `allowed` holds. A licence with an exception is
/// asked for as `NAME WITH EXCEPTION`.
pub(super) fn permits(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Result<bool, Malformed> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut reader = Reader { words: spaced.split_whitespace().collect(), at: 0, allowed };
    let permitted = reader.any()?;
    if reader.at < reader.words.len() {
        return Err(Malformed::Unexpected(reader.words[reader.at].to_owned()));
    }
    Ok(permitted)
}

/// Why an expression cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    Unexpected(String),
    EndsEarly,
}

impl Display for Malformed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unexpected(word) => write!(f, "it does not continue with `{word}`"),
            Self::EndsEarly => f.write_str("it ends too early"),
        }
    }
}

struct Reader<'a> {
    words: Vec<&'a str>,
    at: usize,
    allowed: &'a dyn Fn(&str) -> bool,
}

impl<'a> Reader<'a> {
    fn any(&mut self) -> Result<bool, Malformed> {
        let mut permitted = self.all()?;
        while self.take("OR") {
            permitted |= self.all()?;
        }
        Ok(permitted)
    }

    fn all(&mut self) -> Result<bool, Malformed> {
        let mut permitted = self.one()?;
        while self.take("AND") {
            permitted &= self.one()?;
        }
        Ok(permitted)
    }

    fn one(&mut self) -> Result<bool, Malformed> {
        if self.take("(") {
            let permitted = self.any()?;
            return if self.take(")") { Ok(permitted) } else { Err(self.unexpected()) };
        }
        let licence = self.name()?;
        if self.take("WITH") {
            let exception = self.name()?;
            return Ok((self.allowed)(&format!("{licence} WITH {exception}")));
        }
        Ok((self.allowed)(licence))
    }

    fn name(&mut self) -> Result<&'a str, Malformed> {
        let word = self.words.get(self.at).copied().ok_or(Malformed::EndsEarly)?;
        if ["OR", "AND", "WITH", "(", ")"].contains(&word) {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(word)
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.get(self.at) == Some(&word);
        self.at += usize::from(found);
        found
    }

    fn unexpected(&self) -> Malformed {
        self.words.get(self.at).map_or(Malformed::EndsEarly, |word| Malformed::Unexpected((*word).to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permitted(expression: &str) -> Result<bool, Malformed> {
        permits(expression, &|licence| {
            ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].contains(&licence)
        })
    }

    #[test]
    fn choices_conjunctions_and_exceptions() {
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only", true),
            ("MIT AND GPL-3.0-only", false),
            ("MIT/Apache-2.0", true),
            ("MIT OR GPL-3.0-only AND LGPL-2.1", true),
            ("(MIT OR GPL-3.0-only) AND LGPL-2.1", false),
            ("(GPL-3.0-only OR Apache-2.0) AND MIT", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0 WITH Other-exception", false),
        ] {
            assert_eq!(permitted(expression), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn malformed_expressions_are_errors() {
        for expression in ["", "MIT OR", "(MIT", "MIT Apache-2.0", "AND MIT", "MIT)", "MIT WITH"] {
            assert!(permitted(expression).is_err(), "{expression}");
        }
    }
}
