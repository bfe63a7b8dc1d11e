//! The known word that was probably meant.

/// The candidate with the smallest edit distance to `word`, if it is near
/// enough to be a slip: at most a third of the letters differ.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let furthest = word.chars().count().div_ceil(3).min(6);
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= furthest)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters have to be put in, taken out or replaced (Levenshtein).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_letters() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("server_url", "server_url"), 0);
    }

    #[test]
    fn the_nearest_is_named_and_the_far_is_not() {
        let known = ["server_url", "listen_addr", "dns.magic_dns"];
        assert_eq!(nearest("sever_url", known.into_iter()), Some("server_url"));
        assert_eq!(nearest("listen_address", known.into_iter()), Some("listen_addr"));
        assert_eq!(nearest("colour", known.into_iter()), None);
    }
}
