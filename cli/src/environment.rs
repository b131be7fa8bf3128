//! The environment variables that the command reads, in one table.

use serde::Serialize;

/// One environment variable.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// What is taken where it is not set, if anything.
    pub(crate) default: Option<&'static str>,
    pub(crate) meaning: &'static str,
}

/// The version, with the commit that it was built from where that is known.
pub(crate) const VERSION: &str = env!("RECURVE_VERSION");

const NO_COLOR: &str = "NO_COLOR";

/// Every variable, in alphabetical order.
pub(crate) const VARIABLES: &[Variable] = &[
    Variable {
        name: "HOME",
        kind: "path",
        default: None,
        meaning: "profiles are kept in its .cache/recurve where XDG_CACHE_HOME is not set",
    },
    Variable {
        name: NO_COLOR,
        kind: "text",
        default: None,
        meaning: "any text but the empty one turns colours off where --color is auto",
    },
    Variable {
        name: "XDG_CACHE_HOME",
        kind: "path",
        default: Some("$HOME/.cache"),
        meaning: "profiles are kept in its recurve",
    },
];

/// Whether the user wants no colours.
pub(crate) fn no_color() -> bool {
    std::env::var_os(NO_COLOR).is_some_and(|value| !value.is_empty())
}
