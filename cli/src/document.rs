//! Which of the command's documents a file is, so that one given where another is meant is told by its name.

use crate::failure::InvalidFile;
use anyhow::Result;
use std::path::Path;

/// A JSON document that the command writes or reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Document {
    Plan,
    Profile,
    Measurement,
    Instance,
}

impl Document {
    const ALL: [Self; 4] = [Self::Plan, Self::Profile, Self::Measurement, Self::Instance];

    fn name(self) -> &'static str {
        match self {
            Self::Plan => "a plan",
            Self::Profile => "a profile",
            Self::Measurement => "a measurement of `recurve bench`",
            Self::Instance => "an instance for `recurve schedule`",
        }
    }

    /// Fields that it has and no other.
    fn fields(self) -> [&'static str; 2] {
        match self {
            Self::Plan => ["steps", "workers"],
            Self::Profile => ["operators", "machine"],
            Self::Measurement => ["latency_us", "runs"],
            Self::Instance => ["tasks", "processors"],
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Plan => "`recurve plan MODEL --out F.json` writes what --plan reads",
            Self::Profile => "`recurve profile MODEL --out F.json` writes what --profile reads",
            Self::Measurement => "`recurve bench MODEL --out F.json` writes what --baseline reads",
            Self::Instance => "`recurve plan MODEL --emit-instance F.json` writes one",
        }
    }

    /// Why the text of a document is not read, where it has another version than `version`, whatever else it has; those of no
    /// version are for the document's own reader.
    pub(crate) fn other_version(text: &str, version: u32) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version: found } = serde_json::from_str(text).ok()?;
        (found != version).then(|| format!("it has version {found} instead of {version}"))
    }

    /// Refuses the text of another document than this one. What is none of them is for the document's own reader.
    pub(crate) fn expect(self, path: &Path, text: &str) -> Result<()> {
        let Ok(serde_json::Value::Object(given)) = serde_json::from_str(text) else { return Ok(()) };
        let is = |document: &Self| document.fields().iter().all(|field| given.contains_key(*field));
        match Self::ALL.iter().find(|document| is(document)) {
            Some(other) if *other != self => {
                let problem = format!("`{}` is {}; {} is meant", path.display(), other.name(), self.name());
                Err(InvalidFile::new(problem, self.hint()).into())
            }
            _ => Ok(()),
        }
    }
}
