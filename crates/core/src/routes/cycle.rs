//! Smooth weighted rotation (ROUTE-30, ROUTE-31): an endless sequence in which each of several
//! targets has its share in every run of turns.

/// The order in which targets come first, one full turn of it; target `i` stands in it
/// `weights[i]` times, as evenly spread as can be.
pub(super) fn cycle(weights: &[u32]) -> Vec<usize> {
    // The k-th of w copies has its ideal place at (k + 1/2) / w of the whole turn.
    let mut places: Vec<(f64, usize)> = Vec::new();
    for (index, &weight) in weights.iter().enumerate() {
        places.extend((0..weight).map(|k| ((f64::from(k) + 0.5) / f64::from(weight), index)));
    }
    places.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    places.into_iter().map(|(_, index)| index).collect()
}

/// The order for one turn: the one whose turn it is, then the others as they would follow, each
/// once, at most `most`.
pub(super) fn order(cycle: &[usize], turn: u64, most: usize) -> Vec<usize> {
    let length = cycle.len();
    let start = usize::try_from(turn % length.max(1) as u64).unwrap_or(0);
    let mut order: Vec<usize> = Vec::with_capacity(length.min(most));
    for &index in cycle.iter().cycle().skip(start).take(length) {
        if order.len() >= most {
            break;
        }
        if !order.contains(&index) {
            order.push(index);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_30_route_31_shares_hold_over_any_run_of_turns() {
        for weights in [
            &[2, 1][..],
            &[1, 1, 1],
            &[5, 1, 1],
            &[7, 3],
            &[1],
            &[4, 4, 2, 1],
        ] {
            let cycle = cycle(weights);
            let total: u32 = weights.iter().sum();
            assert_eq!(cycle.len(), total as usize);
            for start in 0..u64::from(total) {
                let mut counts = vec![0u32; weights.len()];
                for run in 1..=u64::from(total) * 3 {
                    counts[order(&cycle, start + run - 1, 1)[0]] += 1;
                    for (count, weight) in counts.iter().zip(weights) {
                        let share = run as f64 * f64::from(*weight) / f64::from(total);
                        let off = (f64::from(*count) - share).abs();
                        assert!(
                            off < 2.0,
                            "{weights:?} from {start}, {run} turns: {counts:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn route_29_route_32_all_others_follow_each_once() {
        let cycle = cycle(&[2, 1]);
        assert_eq!(cycle, [0, 1, 0]);
        let orders: Vec<_> = (0..3).map(|turn| order(&cycle, turn, 9)).collect();
        assert_eq!(orders, [[0, 1], [1, 0], [0, 1]]);
        assert_eq!(order(&[], 7, 9), [0usize; 0]);
        assert_eq!(order(&[0, 1, 2, 3], 3, 2), [3, 0]);
    }
}
