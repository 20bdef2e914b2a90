//! Text inside HTML and SVG.

/// `text` with the five characters that HTML and XML give a meaning replaced by references, and control characters
/// that XML forbids replaced by U+FFFD.
///
/// Safe as element content and inside a quoted attribute; not inside `<script>` or `<style>`, where this project
/// puts no text of a user.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' => out.push(character),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

/// A relative path as the value of an `href`: percent-encoded but for unreserved characters and `/`.
///
/// A `:` is encoded too, so that no file name can become the scheme of a URL.
pub fn href(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(byte as char);
            }
            // A Windows path separates by backslashes; a URL does not.
            b'\\' => out.push('/'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_control_characters_lose_their_meaning() {
        assert_eq!(
            escape("<img src=\"x\" onerror='y'> & z"),
            "&lt;img src=&quot;x&quot; onerror=&#39;y&#39;&gt; &amp; z"
        );
        assert_eq!(escape("a\u{0}b\u{1b}[31m\n"), "a\u{fffd}b\u{fffd}[31m\n");
        assert_eq!(escape("Käse ± 0.1"), "Käse ± 0.1");
    }

    #[test]
    fn a_file_name_cannot_become_a_scheme_or_leave_its_attribute() {
        assert_eq!(href("javascript:alert(1)"), "javascript%3Aalert%281%29");
        assert_eq!(href("overlays/a b\"#?.png"), "overlays/a%20b%22%23%3F.png");
    }
}
