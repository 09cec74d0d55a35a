//! Texts made from texts: damaged, spliced, blown up, and with values that were chosen to hurt.

use super::Random;

/// No text is made larger than this.
const LARGEST: usize = 1 << 18;

/// Pieces that a manifest has, and pieces that it must not have.
const PIECES: &[&str] = &[
    "store",
    "gateway",
    "update",
    "load",
    "version",
    "from",
    "to",
    "script",
    "[[up]]",
    "[[down]]",
    "[components]",
    "point_of_no_return = true",
    "change = { advanced = {} }",
    "\"1.0.0\"",
    "\"~1.0\"",
    "\"*\"",
    "\">=1.0, <1.1\"",
    "\"18446744073709551615.0.0\"",
    "\"1.0.0-rc.1+b\"",
    "\"64MiB\"",
    "\"99999999999TiB\"",
    "\"5s\"",
    "\"0ms\"",
    "\"../../etc/passwd\"",
    "\"/\"",
    "\"\"",
    "\"\\u0000\"",
    "\"\\u202e\"",
    "\"💥\"",
    "0x7fffffffffffffff",
    "-1",
    "1e999",
    "nan",
    "inf",
    "1979-05-27",
    "true",
    "false",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'''",
    "\"\"\"",
    "#",
    "=",
    ",",
    ".",
    "\n",
    "\r\n",
    "\t",
    "\u{feff}",
    "\\",
    "{}",
    "[]",
    "handwritten = true",
    "null",
];

/// A text made from one of the corpus.
#[must_use]
pub fn mutated(random: &mut Random, corpus: &[String]) -> String {
    let mut text = random.pick(corpus).cloned().unwrap_or_default();
    for _ in 0..=random.below(6) {
        text = step(random, &text, corpus);
        if text.len() > LARGEST {
            text = cut(&text, 0, LARGEST).to_owned();
        }
    }
    text
}

fn step(random: &mut Random, text: &str, corpus: &[String]) -> String {
    let (a, b) = range(random, text);
    let (head, middle, tail) = (cut(text, 0, a), cut(text, a, b), cut(text, b, text.len()));
    let piece = random.pick(PIECES).copied().unwrap_or_default();
    match random.below(13) {
        0 => format!("{head}{tail}"),
        1 => format!("{head}{middle}{middle}{tail}"),
        2 => {
            let times = 1 << random.below(14);
            let times = times.min(LARGEST / middle.len().max(1));
            format!("{head}{}{tail}", middle.repeat(times))
        }
        3 => format!("{head}{piece}{tail}"),
        4 => format!("{head}{piece}{middle}{tail}"),
        5 => {
            let other = random.pick(corpus).cloned().unwrap_or_default();
            let (c, d) = range(random, &other);
            format!("{head}{}{tail}", cut(&other, c, d))
        }
        6 => lines(random, text, |random, lines| {
            let (a, b) = (random.below(lines.len()), random.below(lines.len()));
            lines.swap(a, b);
        }),
        7 => lines(random, text, |random, lines| {
            lines.remove(random.below(lines.len()));
        }),
        8 => lines(random, text, |random, lines| {
            let line = lines[random.below(lines.len())];
            lines.insert(random.below(lines.len()), line);
        }),
        9 => quoted(random, text, piece),
        10 => {
            let (open, close) = [("[", "]"), ("{ a = ", " }"), ("a.", "")][random.below(3)];
            let deep = 1 << random.below(13);
            format!("{head}{}1{}{tail}", open.repeat(deep), close.repeat(deep))
        }
        11 => format!("{head}{}{tail}", "9".repeat(1 << random.below(12))),
        _ => {
            let mut bytes = text.as_bytes().to_vec();
            if !bytes.is_empty() {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }
}

/// A short range, mostly.
fn range(random: &mut Random, text: &str) -> (usize, usize) {
    let a = random.below(text.len() + 1);
    let most = if random.once_in(8) { text.len() } else { 40 };
    (a, (a + random.below(most + 1)).min(text.len()))
}

/// The text between two bytes, moved to where characters begin.
fn cut(text: &str, a: usize, b: usize) -> &str {
    let floor = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (a, b) = (floor(a.min(text.len())), floor(b.min(text.len())));
    &text[a..b.max(a)]
}

fn lines(random: &mut Random, text: &str, change: impl Fn(&mut Random, &mut Vec<&str>)) -> String {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    if !lines.is_empty() {
        change(random, &mut lines);
    }
    lines.concat()
}

/// Puts a piece in the place of a quoted value.
fn quoted(random: &mut Random, text: &str, piece: &str) -> String {
    let marks: Vec<usize> = text.match_indices('"').map(|(at, _)| at).collect();
    let pairs: Vec<&[usize]> = marks.chunks_exact(2).collect();
    match random.pick(&pairs) {
        Some(pair) => format!(
            "{}{piece}{}",
            cut(text, 0, pair[0]),
            cut(text, pair[1] + 1, text.len())
        ),
        None => format!("{text}{piece}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_can_be_mutated() {
        for corpus in [vec![], vec![String::new()], vec!["é = \"ü\"\n".into()]] {
            for case in 0..500 {
                let text = mutated(&mut Random::of(3, case), &corpus);
                assert!(text.len() <= LARGEST);
                assert_eq!(text, mutated(&mut Random::of(3, case), &corpus));
            }
        }
    }
}
