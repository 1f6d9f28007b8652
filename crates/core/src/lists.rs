//! How addresses are compared with suppression lists (CONF-62).
//!
//! The lists themselves are kept by the store; it asks here what to look up and how to write an
//! entry down, so that every list compares alike.

/// An address or `@domain` entry as it is kept and compared: trimmed, in lower case.
///
/// Plus-addresses stay distinct, and nothing else of the address is changed.
pub fn normalise(address: &str) -> String {
    address.trim().to_lowercase()
}

/// What must be looked up for an address: itself, and `@domain`. Both normalised.
///
/// The second is `None` for a text without `@`.
pub fn keys(address: &str) -> (String, Option<String>) {
    let address = normalise(address);
    let domain = address
        .rfind('@')
        .and_then(|at| address.get(at..))
        .filter(|d| d.len() > 1)
        .map(str::to_owned);
    (address, domain)
}

/// Whether an entry of a list blocks an address.
pub fn blocks(entry: &str, address: &str) -> bool {
    let entry = normalise(entry);
    let (whole, domain) = keys(address);
    !entry.is_empty() && (entry == whole || Some(entry) == domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conf_62_whole_address_without_case_and_blanks() {
        assert!(blocks(" John.Doe@Example.ORG\t", "john.doe@example.org"));
        assert!(blocks("élise@example.org", "ÉLISE@example.org"));
        assert!(!blocks("doe@example.org", "john.doe@example.org"));
        assert!(!blocks("john.doe@example.org", "john.doe@example.org.uk"));
        assert!(!blocks("", "john.doe@example.org"));
        assert!(!blocks("  ", ""));
    }

    #[test]
    fn conf_62_at_domain_blocks_the_domain_alone() {
        assert!(blocks("@Example.org", "anyone@example.ORG"));
        assert!(blocks("@example.org", "\"odd@local\"@example.org"));
        assert!(!blocks("@example.org", "anyone@sub.example.org"));
        assert!(!blocks("@example.org", "anyone@notexample.org"));
        assert!(!blocks("example.org", "anyone@example.org"));
        assert!(!blocks("@", "anyone@"));
    }

    #[test]
    fn conf_62_plus_addresses_are_distinct() {
        assert!(!blocks("user@example.org", "user+news@example.org"));
        assert!(!blocks("user+news@example.org", "user@example.org"));
        assert!(blocks("user+news@example.org", "User+News@example.org"));
    }

    #[test]
    fn keys_are_the_address_and_its_domain() {
        assert_eq!(keys(" A@B.C "), ("a@b.c".into(), Some("@b.c".into())));
        assert_eq!(keys("nobody"), ("nobody".into(), None));
        assert_eq!(keys("nobody@"), ("nobody@".into(), None));
    }
}
