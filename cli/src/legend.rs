//! What is said under several tables.

/// Of operators that fusion made, where there are some.
pub(crate) fn of_fused<'a>(operators: impl IntoIterator<Item = &'a str>) -> &'static str {
    if operators.into_iter().any(|op| op.starts_with("recurve:Fused")) {
        "recurve:Fused… is one kernel in the place of several nodes of the model: `recurve inspect MODEL --fused` lists them.\n"
    } else {
        ""
    }
}
