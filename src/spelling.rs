//! What a mistyped name was meant to be.

/// The name nearest to `typed`, if it is near enough to be meant.
pub(crate) fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (edits(&typed.to_lowercase(), &name.to_lowercase()), name))
        .min()
        .filter(|&(edits, name)| edits <= 2.max(name.chars().count() / 3))
        .map(|(_, name)| name)
}

/// Levenshtein's distance: the fewest letters to insert, delete or replace.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_meant_and_far_ones_are_not() {
        assert_eq!((edits("kitten", "sitting"), edits("", "abc"), edits("abc", "abc")), (3, 3, 0));
        let names = || ["bottle", "metal_nut", "toothbrush"].into_iter();
        assert_eq!(nearest("Botle", names()), Some("bottle"));
        assert_eq!(nearest("metalnut", names()), Some("metal_nut"));
        assert_eq!(nearest("zipper", names()), None);
        assert_eq!(nearest("x", std::iter::empty()), None);
    }
}
