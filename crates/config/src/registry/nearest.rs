//! The name that was probably meant.

/// The known name nearest to a misspelt one, if it is near enough to be meant: at most a third
/// of its letters differ.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    known
        .map(|k| (distance(&name, k, allowed), k))
        .filter(|(d, _)| *d <= allowed)
        .min()
        .map(|(_, k)| k)
}

/// Edits (insert, delete, replace) that turn one into the other. Stops early for names whose
/// lengths alone differ too much, so that hostile names cost nothing.
fn distance(a: &str, b: &str, allowed: usize) -> usize {
    if a.len().abs_diff(b.len()) > 4 * allowed || a.len() > 200 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *cell;
            *cell = replaced.min(diagonal + 1).min(left + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        assert_eq!(distance("kitten", "sitting", 9), 3);
        assert_eq!(distance("", "abc", 9), 3);
        assert_eq!(distance("abc", "", 9), 3);
        assert_eq!(distance("same", "same", 9), 0);
    }

    #[test]
    fn prefers_the_nearest_and_refuses_the_far() {
        let known = ["listen", "threadnb", "maxsize"];
        assert_eq!(nearest("lisen", known.into_iter()), Some("listen"));
        assert_eq!(nearest("Maxsise", known.into_iter()), Some("maxsize"));
        assert_eq!(nearest("zebra", known.into_iter()), None);
    }
}
