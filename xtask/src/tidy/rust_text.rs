//! Rust source as text: which bytes are code, which lines are tests, where words and blocks are.
//!
//! The rules look for words and brackets, so a scanner that knows comments and literals is enough; nothing
//! here parses.

/// Lines from `first` to `last`, both counted from 1 and included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineRange {
    pub(super) first: usize,
    pub(super) last: usize,
}

impl LineRange {
    pub(crate) fn contains(self, line: usize) -> bool {
        (self.first..=self.last).contains(&line)
    }
}

/// The text with every byte of comments and of the insides of string and character literals replaced by a
/// space. Line breaks stay, so lines and offsets are those of the text.
pub(crate) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (blank_from, blank_to, next) = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                let end = find(bytes, at, b"\n").unwrap_or(bytes.len());
                (at, end, end)
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let end = block_comment_end(bytes, at);
                (at, end, end)
            }
            b'"' => {
                let end = quoted_end(bytes, at + 1, b'"');
                (at + 1, end, end + 1)
            }
            b'r' if raw_hashes(bytes, at).is_some() => {
                let hashes = raw_hashes(bytes, at).unwrap_or(0);
                let close: Vec<u8> = std::iter::once(b'"').chain(vec![b'#'; hashes]).collect();
                let start = at + hashes + 2;
                let end = find(bytes, start, &close).unwrap_or(bytes.len());
                (start, end, end + close.len())
            }
            b'\'' if is_character(text, at) => {
                let end = quoted_end(bytes, at + 1, b'\'');
                (at + 1, end, end + 1)
            }
            _ => (at, at, at + 1),
        };
        let end = blank_to.min(code.len());
        for byte in &mut code[blank_from.min(end)..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = next;
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// The items under a `#[cfg(test)]`, from the attribute to the closing brace. `code` is blanked already.
pub(crate) fn test_items(code: &str) -> Vec<LineRange> {
    let mut ranges: Vec<LineRange> = Vec::new();
    let mut from = 0;
    while let Some(start) = code[from..].find("#[cfg(").map(|offset| from + offset) {
        let attribute_end = code[start..].find(']').map_or(code.len(), |offset| start + offset);
        from = attribute_end;
        if !has_word(&code[start..attribute_end], "test") || code[start..attribute_end].contains("not(") {
            continue;
        }
        let rest = &code[attribute_end..];
        let Some(offset) = rest.find(['{', ';']) else { continue };
        let opening = attribute_end + offset;
        if code.as_bytes()[opening] == b'{' {
            from = block_end(code, opening);
            ranges.push(LineRange { first: line_of(code, start), last: line_of(code, from) });
        }
    }
    ranges
}

/// The offset of the brace that closes the one at `opening`; the end of the code where none does.
pub(super) fn block_end(code: &str, opening: usize) -> usize {
    let mut depth = 0usize;
    for (offset, byte) in code.as_bytes().iter().enumerate().skip(opening) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return offset,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// The line, counted from 1, that the byte at `offset` is on.
pub(super) fn line_of(code: &str, offset: usize) -> usize {
    code[..offset.min(code.len())].matches('\n').count() + 1
}

/// The identifiers and numbers of the code, in order.
pub(super) fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

pub(super) fn has_word(code: &str, word: &str) -> bool {
    words(code).any(|found| found == word)
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(what.len()).position(|window| window == what).map(|offset| from + offset)
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0usize;
    let mut at = start;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'/', Some(b'*')) => {
                depth += 1;
                at += 2;
            }
            (b'*', Some(b'/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The offset of the quote that ends a literal whose inside starts at `from`.
fn quoted_end(bytes: &[u8], from: usize, quote: u8) -> usize {
    let mut at = from;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// The number of `#` where a raw string starts at this `r`, as in `r"`, `br##"`; none for an identifier.
fn raw_hashes(bytes: &[u8], at: usize) -> Option<usize> {
    let identifier = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let before = |distance: usize| at.checked_sub(distance).map(|index| bytes[index]);
    let prefixed = matches!(before(1), Some(b'b' | b'c')) && !before(2).is_some_and(identifier);
    if before(1).is_some_and(identifier) && !prefixed {
        return None;
    }
    let hashes = bytes[at + 1..].iter().take_while(|&&byte| byte == b'#').count();
    (bytes.get(at + 1 + hashes) == Some(&b'"')).then_some(hashes)
}

/// Whether the quote at `at` opens a character literal; otherwise it is a lifetime's.
fn is_character(text: &str, at: usize) -> bool {
    let mut inside = text[at + 1..].chars();
    match inside.next() {
        Some('\\') => true,
        Some(_) => inside.next() == Some('\''),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blank_and_offsets_stay() {
        let text = "let a = \"x // y\"; // unsafe\n/* a /* b */ c */ let b = 'é'; 'l: loop {}\n";
        let code = code(text);
        assert_eq!(code.len(), text.len());
        assert_eq!(words(&code).collect::<Vec<_>>(), ["let", "a", "let", "b", "l", "loop"]);
    }

    #[test]
    fn raw_strings_escapes_and_raw_identifiers() {
        let text = r##"f(r#"a " b"#, br"c", b"\"d", '\'', r#type, for_r"e")"##;
        let blank = code(text);
        assert_eq!(words(&blank).collect::<Vec<_>>(), ["f", "r", "br", "b", "r", "type", "for_r"]);
    }

    #[test]
    fn unclosed_literals_end_with_the_text() {
        for text in ["\"abc\\", "r#\"abc", "/* abc", "'\\", "// abc"] {
            assert_eq!(code(text).len(), text.len(), "{text}");
        }
    }

    #[test]
    fn test_items_reach_from_attribute_to_brace() {
        let text = "fn f() {}\n#[cfg(test)]\nmod tests {\n  fn g() { {} }\n}\n#[cfg(not(test))]\nfn h() {}\n\
                    #[cfg(test)]\nmod more;\n#[cfg(all(test, unix))]\nfn i() {\n}\n";
        let found = test_items(&code(text));
        assert_eq!(found, [LineRange { first: 2, last: 5 }, LineRange { first: 10, last: 12 }]);
    }
}
