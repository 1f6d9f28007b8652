//! Names with wildcards: `*` stands for zero or more characters.
//!
//! Used for MX names of groups (FLOW-55). Matching never goes back: every literal is found once,
//! leftmost, so the time is linear in the name for each literal of the pattern. The `*` of reply
//! patterns means something else (at least one character); see `qualify`.

/// A compiled wildcard pattern. Compared without regard to ASCII case and to a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
    /// Literals between the wildcards; one alone means there is no wildcard.
    literals: Vec<String>,
}

impl Glob {
    /// Compiles; every text is a valid pattern.
    pub fn new(pattern: &str) -> Self {
        let text = fold(pattern);
        let literals = text.split('*').map(str::to_owned).collect();
        Glob { text, literals }
    }

    /// The pattern in lower case, without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The literal after the last wildcard: every matching name ends with it. May be empty.
    pub fn tail(&self) -> &str {
        self.literals.last().map_or("", String::as_str)
    }

    /// Whether the whole of `name` matches. `name` must be folded with [`fold`].
    pub fn matches_folded(&self, name: &str) -> bool {
        let Some((first, rest)) = self.literals.split_first() else {
            return false;
        };
        let Some((last, middle)) = rest.split_last() else {
            return name == first;
        };
        let Some(name) = name.strip_prefix(first.as_str()) else {
            return false;
        };
        let Some(mut name) = name.strip_suffix(last.as_str()) else {
            return false;
        };
        for literal in middle {
            let Some(at) = name.find(literal.as_str()) else {
                return false;
            };
            name = name.get(at + literal.len()..).unwrap_or("");
        }
        true
    }

    /// Whether the whole of `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        self.matches_folded(&fold(name))
    }
}

/// A name as it is compared: lower case, without a trailing dot and surrounding blanks.
pub fn fold(name: &str) -> String {
    let name = name.trim();
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_55_star_is_zero_or_more_without_case_and_trailing_dot() {
        let cases = [
            ("*.mail.example.org", "mx1.mail.example.org", true),
            ("*.mail.example.org", "MX1.Mail.Example.ORG.", true),
            ("*.mail.example.org", "mail.example.org", false),
            ("*mail.example.org", "mail.example.org", true),
            ("mx*.example.net", "mx.example.net", true),
            ("mx*.example.net", "mx12.example.net", true),
            ("mx*.example.net", "smtp.example.net", false),
            ("mx.example.net.", "mx.example.net", true),
            ("mx.example.net", "mx.example.net.evil.example", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "axbxc", true),
            ("a*bc*c", "abc", false),
            ("*", "", true),
            ("mx?.example.net", "mx1.example.net", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(
                Glob::new(pattern).matches(name),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn many_stars_stay_linear() {
        let glob = Glob::new(&format!("{}b", "a*".repeat(200)));
        assert!(!glob.matches(&"a".repeat(100_000)));
    }
}
