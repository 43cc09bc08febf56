//! Letters that rows share when they cannot be told apart.

/// Letters for ordered rows: each longest stretch of rows in which no pair differs gets one.
///
/// `first_differing[k]` is the first row after `k` that differs from row `k`, or the number of rows. Rows with several
/// letters have them side by side, or separated by spaces where one of the board is longer than a character.
pub(super) fn letters(first_differing: &[usize]) -> Vec<String> {
    let stretches = stretches(first_differing);
    let separator = if stretches.len() > 26 { " " } else { "" };
    let mut letters = vec![String::new(); first_differing.len()];
    for (k, (start, end)) in stretches.into_iter().enumerate() {
        let name = name(k);
        for row in &mut letters[start..end] {
            if !row.is_empty() {
                row.push_str(separator);
            }
            row.push_str(&name);
        }
    }
    letters
}

/// The longest stretches without a difference, by start and end.
fn stretches(first_differing: &[usize]) -> Vec<(usize, usize)> {
    // A stretch from `start` ends before the first row that differs from any row of it.
    let mut ends = first_differing.to_vec();
    for start in (1..ends.len()).rev() {
        ends[start - 1] = ends[start - 1].min(ends[start]);
    }
    let mut covered = 0;
    let longest = |(start, end): (usize, usize)| {
        let is_longest = end > covered;
        covered = covered.max(end);
        is_longest.then_some((start, end))
    };
    ends.into_iter().enumerate().filter_map(longest).collect()
}

/// Name of a stretch: `a` to `z`, `aa`, `ab`, ..
fn name(k: usize) -> String {
    let mut name = Vec::new();
    let mut left = k + 1;
    while left > 0 {
        left -= 1;
        name.push(char::from(b'a' + (left % 26) as u8));
        left /= 26;
    }
    name.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_cover_every_stretch_without_a_difference() {
        assert_eq!(letters(&[4, 4, 4, 4]), ["a", "a", "a", "a"]);
        assert_eq!(letters(&[2, 3, 3]), ["a", "ab", "b"]);
        assert_eq!(letters(&[1, 2, 3]), ["a", "b", "c"]);
        // Row 0 differs from none, but row 1 does from row 2.
        assert_eq!(letters(&[3, 2, 3]), ["a", "a", "b"]);
        assert!(letters(&[]).is_empty());
    }

    #[test]
    fn no_two_stretches_have_the_same_letters() {
        let all_differ: Vec<usize> = (1..=800).collect();
        let letters = letters(&all_differ);
        assert_eq!(
            [0, 25, 26, 27, 51, 52, 701, 702].map(|k| letters[k].as_str()),
            ["a", "z", "aa", "ab", "az", "ba", "zz", "aaa"]
        );
        let mut distinct = letters.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), 800);
    }

    #[test]
    fn letters_of_more_than_one_character_are_separated() {
        // Every row is like its neighbours and no others.
        let rows: Vec<usize> = (0..28).map(|k| (k + 2).min(28)).collect();
        let letters = letters(&rows);
        assert_eq!((letters[0].as_str(), letters[1].as_str()), ("a", "a b"));
        assert_eq!((letters[26].as_str(), letters[27].as_str()), ("z aa", "aa"));
    }
}
