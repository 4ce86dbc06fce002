//! The tokens that can be chosen next, taken from the scores of the whole vocabulary.

/// Tokens with their scores, the best first.
pub type Candidates = Vec<(i32, f32)>;

/// Most candidates that are kept in order while the scores are gone through; more are sorted.
const INSERTED: usize = 256;

/// The `wanted` largest scores, of which NaN is none.
pub fn best(scores: &[f32], wanted: usize) -> Candidates {
    let number = |score: f32| if score.is_nan() { f32::NEG_INFINITY } else { score };
    if wanted > INSERTED {
        let mut all: Candidates =
            scores.iter().enumerate().map(|(token, &score)| (token as i32, number(score))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(wanted);
        return all;
    }
    let mut best: Candidates = Vec::with_capacity(wanted + 1);
    let mut least = f32::NEG_INFINITY;
    for (token, &score) in scores.iter().enumerate() {
        // Nearly all are too small.
        if best.len() == wanted && (score.is_nan() || score <= least) {
            continue;
        }
        let score = number(score);
        let place = best.partition_point(|(_, other)| *other >= score);
        best.insert(place, (token as i32, score));
        best.truncate(wanted);
        least = best.last().map_or(f32::NEG_INFINITY, |(_, score)| *score);
    }
    best
}

/// The `most` largest scores, and all that equal the last of them.
pub fn best_with_equals(scores: &[f32], most: usize) -> Candidates {
    let mut kept = best(scores, most);
    let Some(&(last, least)) = kept.last().filter(|_| most < scores.len()) else {
        return kept;
    };
    // Equals stand in the order of the vocabulary.
    let equals = scores.iter().enumerate().skip(last as usize + 1).filter(|(_, score)| **score == least);
    kept.extend(equals.map(|(token, &score)| (token as i32, score)));
    kept
}
