//! What a plan's rewrite did to the model, in words.

/// Of the name by which the plan has it; `None` where nothing was rewritten.
pub(crate) fn in_words(rewrite: &str) -> Option<String> {
    let part = |part: &str| match part.split_once(' ') {
        _ if part == "directions" => "both directions of recurrences apart".to_owned(),
        _ if part == "batch halves" => "the batch in two halves".to_owned(),
        Some(("pieces", count)) => format!("sequences of recurrences in {count} pieces"),
        Some(("columns", count)) => format!("large products in {count} parts by columns"),
        _ => part.to_owned(),
    };
    let parts = || rewrite.split(", ").map(part).collect::<Vec<_>>().join(", ");
    (rewrite != "none").then(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rewrite_has_words() {
        for (name, words) in [
            (
                "directions, pieces 4",
                "both directions of recurrences apart, sequences of recurrences in 4 pieces",
            ),
            ("batch halves", "the batch in two halves"),
            ("columns 2", "large products in 2 parts by columns"),
        ] {
            assert_eq!(in_words(name).as_deref(), Some(words));
        }
        assert_eq!(in_words("none"), None);
    }
}
