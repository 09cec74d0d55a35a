//! Patterns.

/// Whether `text` matches `pattern` by the rules of Redis: `*`, `?`, `[a-c]`, `[^x]`, `\`.
///
/// It takes time within the product of both lengths, whatever the pattern.
#[must_use]
pub fn glob_match(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        // Redis matches the empty text with these two only.
        return pattern.is_empty() || pattern == b"*";
    }
    let mut p = 0;
    let mut t = 0;
    // Where to go on after the last star when what follows it doesn't match.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if t == text.len() {
            return pattern
                .get(p..)
                .unwrap_or_default()
                .iter()
                .all(|byte| *byte == b'*');
        }
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        if let Some(next) = match_one(pattern, p, text[t]) {
            p = next;
            t += 1;
            continue;
        }
        match retry {
            None => return false,
            Some((after_star, at)) => {
                p = after_star;
                t = at + 1;
                retry = Some((after_star, t));
            }
        }
    }
}

/// Matches one byte with the pattern's element at `p`; the place of the next element.
fn match_one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => match_class(pattern, p + 1, byte),
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == byte).then_some(p + 2),
        literal => (literal == byte).then_some(p + 1),
    }
}

fn match_class(pattern: &[u8], mut p: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(p) == Some(&b'^');
    p += usize::from(negated);
    let mut matches = false;
    loop {
        match pattern.get(p..).unwrap_or_default() {
            // A class without an end ends with the pattern.
            [] => break,
            [b'\\', escaped, ..] => {
                matches |= *escaped == byte;
                p += 2;
            }
            [b']', ..] => {
                p += 1;
                break;
            }
            [from, b'-', to, ..] => {
                matches |= (*from.min(to)..=*from.max(to)).contains(&byte);
                p += 3;
            }
            [literal, ..] => {
                matches |= *literal == byte;
                p += 1;
            }
        }
    }
    (matches != negated).then_some(p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("**", "", false),
            ("", "", true),
            ("", "a", false),
            ("*", "anything", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("[abc", "b", true),
            ("[", "[", false),
            ("[^", "x", true),
            ("a**", "a", true),
            ("*b*c", "abxbc", true),
            ("*b*c", "abxb", false),
            ("[\\]]", "]", true),
            ("user:*:name", "user:12:name", true),
        ] {
            assert_eq!(
                glob_match(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn a_spiteful_pattern_takes_no_time() {
        let pattern = "a*".repeat(50) + "b";
        let text = "a".repeat(20_000);
        let begin = std::time::Instant::now();
        assert!(!glob_match(pattern.as_bytes(), text.as_bytes()));
        assert!(begin.elapsed().as_secs() < 20);
    }
}
