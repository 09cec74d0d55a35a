//! What both drawings share: colours, text, escaping.

use std::fmt::Write as _;

/// Colours and strokes, the same as in the figures of the documentation.
pub(crate) const STYLE: &str = "\
.ground{fill:#fff}.text{fill:#1c2530}.quiet{fill:#566372}.bold{font-weight:600}.middle{text-anchor:middle}\
.end{text-anchor:end}.old{fill:#f2d9b8;stroke:#a9722a}.new{fill:#bfdcf0;stroke:#2b6c9e}\
.same{fill:#eef0f2;stroke:#7b8794}.added{fill:#cfe8d5;stroke:#2f7d4f}.removed{fill:#f6d5d2;stroke:#b3261e}\
.gone{fill:none;stroke:#9aa5b1;stroke-dasharray:4 4}.line{stroke:#9aa5b1;fill:none}.grid{stroke:#e4e7eb}\
.flip{stroke:#b3261e;stroke-width:2}.fliptext{fill:#b3261e;font-weight:600}.pause{fill:#f3f4f6}\
.state{fill:#7a3e9d}.mark{fill:#fff;stroke:#1c2530;stroke-width:1.5}.warn{fill:#b3261e}";

/// Begins a drawing of so many units.
pub(crate) fn begin(width: i64, height: i64, title: &str, description: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"13\" \
         role=\"img\" aria-labelledby=\"title description\">\n  <title id=\"title\">{}</title>\n  \
         <desc id=\"description\">{}</desc>\n  <style>{STYLE}</style>\n  \
         <rect class=\"ground\" width=\"{width}\" height=\"{height}\"/>\n",
        escaped(title),
        escaped(description)
    )
}

/// Adds a text.
pub(crate) fn text(out: &mut String, class: &str, x: i64, y: i64, size: i64, text: &str) {
    let _ = writeln!(
        out,
        "  <text class=\"{class}\" x=\"{x}\" y=\"{y}\" font-size=\"{size}\">{}</text>",
        escaped(text)
    );
}

/// About how wide a text is, in units: the fonts that are used are not known.
pub(crate) fn width(text: &str, size: i64) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(0) * size * 62 / 100
}

/// A text that is no markup.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
