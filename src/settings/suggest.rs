//! "Did you mean": the nearest of a few known words.
//!
//! Knows words only, not what they stand for.

/// Returns the candidate nearest to `word`, when it is near enough to be what was meant: at most one
/// edit for every three characters, and no more than three.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = word.chars().count().div_ceil(3).min(3);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(edits, _)| *edits <= limit)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours count one each.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().take(LONGEST).flat_map(char::to_lowercase).collect();
    let right: Vec<char> = right.chars().take(LONGEST).flat_map(char::to_lowercase).collect();
    let mut before = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, from) in left.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, to) in right.iter().enumerate() {
            let substituted = last[column] + usize::from(from != to);
            let mut best = substituted.min(last[column + 1] + 1).min(line[column] + 1);
            let swapped = row > 0 && column > 0 && left[row - 1] == *to && right[column - 1] == *from;
            if swapped {
                best = best.min(before[column - 1] + 1);
            }
            line.push(best);
        }
        before = std::mem::replace(&mut last, line);
    }
    last.last().copied().unwrap_or(0)
}

/// Characters of a word that are looked at; keys are shorter.
const LONGEST: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_are_understood_and_other_words_are_not() {
        let keys = ["interfaces", "form", "ports", "protocols"];
        assert_eq!(nearest("interfacse", keys), Some("interfaces"));
        assert_eq!(nearest("Port", keys), Some("ports"));
        assert_eq!(nearest("protocol", keys), Some("protocols"));
        assert_eq!(nearest("zebra", keys), None);
        assert_eq!(nearest("", keys), None);
    }
}
