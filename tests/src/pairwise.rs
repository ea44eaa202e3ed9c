//! Few combinations of many choices: what goes wrong where two of them meet shows in one of the
//! combinations.

use std::collections::BTreeSet;

/// A choice: the factor and its level.
type Choice = (usize, usize);

/// Rows of one level for each factor, where factor `f` has `levels[f]`, such that each two levels of
/// different factors are together in some row. The same rows at every call.
///
/// Greedy, as Cohen, Dalal, Fredman & Patton, "The AETG system" (1997): a row begins with a pair
/// that no row has yet, and gets for each other factor the level that makes the most new pairs with
/// those it has.
///
/// # Panics
///
/// If a factor has no level.
pub fn pairwise(levels: &[usize]) -> Vec<Vec<usize>> {
    assert!(
        levels.iter().all(|&count| count > 0),
        "expected a level of every factor, found {levels:?}"
    );
    let mut open = pairs(levels);
    let mut rows = Vec::new();
    while let Some(&(a, b)) = open.first() {
        let mut chosen = vec![a, b];
        for (factor, &count) in levels.iter().enumerate() {
            if [a.0, b.0].contains(&factor) {
                continue;
            }
            // Of levels that are as good as each other another one each time.
            let turned = (0..count).map(|level| (level + rows.len()) % count);
            let best = turned.max_by_key(|&level| {
                let new = chosen.iter().filter(|&&other| {
                    let pair = ordered((factor, level), other);
                    open.contains(&pair)
                });
                new.count()
            });
            chosen.push((factor, best.expect("every factor has a level")));
        }
        for (place, &a) in chosen.iter().enumerate() {
            for &b in &chosen[..place] {
                open.remove(&ordered(a, b));
            }
        }
        chosen.sort();
        rows.push(chosen.into_iter().map(|(_, level)| level).collect());
    }
    rows
}

/// Each two levels of different factors, the smaller factor first.
fn pairs(levels: &[usize]) -> BTreeSet<(Choice, Choice)> {
    let choices = |factor: usize| (0..levels[factor]).map(move |level| (factor, level));
    let factors = 0..levels.len();
    let pairs = factors.flat_map(|second| {
        let smaller = (0..second).flat_map(choices);
        smaller.flat_map(move |a| choices(second).map(move |b| (a, b)))
    });
    pairs.collect()
}

fn ordered(a: Choice, b: Choice) -> (Choice, Choice) {
    (a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: [usize; 9] = [7, 4, 2, 2, 3, 1, 2, 5, 2];

    #[test]
    fn each_two_levels_are_together_in_some_row() {
        let rows = pairwise(&LEVELS);
        for (a, b) in pairs(&LEVELS) {
            let together = |row: &Vec<usize>| row[a.0] == a.1 && row[b.0] == b.1;
            assert!(rows.iter().any(together), "{a:?} and {b:?}");
        }
        for row in &rows {
            assert_eq!(row.len(), LEVELS.len());
            assert!(row.iter().zip(LEVELS).all(|(&level, count)| level < count));
        }
    }

    #[test]
    fn the_rows_are_few_and_always_the_same() {
        let rows = pairwise(&LEVELS);
        assert_eq!(rows, pairwise(&LEVELS));
        // The two largest factors need 7 * 5 of them, all combinations would be 13,440.
        assert!((35..=45).contains(&rows.len()), "{} rows", rows.len());
        assert_eq!(pairwise(&[2, 2]).len(), 4);
        let many = pairwise(&[2; 20]);
        assert!(many.len() <= 12, "{} rows", many.len());
    }

    #[test]
    fn fewer_than_two_factors_have_no_pairs() {
        assert!(pairwise(&[]).is_empty());
        assert!(pairwise(&[3]).is_empty());
    }

    #[test]
    #[should_panic(expected = "a level of every factor")]
    fn a_factor_without_levels_is_a_mistake() {
        pairwise(&[2, 0]);
    }
}
