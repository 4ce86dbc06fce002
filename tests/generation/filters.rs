//! The distribution that the next token is drawn from, against transformers' processors and warpers.

use crate::support::golden::root;
use serde::Deserialize;
use serde_json::Value;
use wattention::generate::{Settings, candidates};
use wattention::models::ModelLimits;
use wattention::models::config::Common;

#[derive(Deserialize)]
struct Case {
    options: Value,
    logits: Vec<f32>,
    text: Vec<i32>,
    input: Vec<i32>,
    /// Token and probability, or its score where there are beams.
    kept: Vec<(i32, f64)>,
}

fn limits(vocab: usize) -> ModelLimits {
    ModelLimits { vocab, ..Common::default().limits([64; 2]) }
}

#[test]
fn the_next_tokens_distribution_equals_transformers() {
    let text = std::fs::read_to_string(root().join("generation_filters.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() >= 240);
    for Case { mut options, logits, text, input, kept } in cases {
        options["max_length"] = 30.into();
        options["eos_token_id"] = vec![2, 5].into();
        let name = options.to_string();
        let options = Settings::parse("case", &name).unwrap().options(&limits(logits.len()), 0).unwrap();
        let scores = candidates(&options, &logits, &text, &input);
        let weights: Vec<f64> = scores.iter().map(|(_, score)| f64::from(*score).exp()).collect();
        let total: f64 = weights.iter().sum();
        let value = |place: usize| match options.num_beams {
            1 => weights[place] / total,
            _ => f64::from(scores[place].1),
        };
        let mut got: Vec<(i32, f64)> = (0..scores.len())
            .filter(|&place| scores[place].1 > f32::NEG_INFINITY)
            .map(|place| (scores[place].0, value(place)))
            .collect();
        got.sort_by_key(|(token, _)| *token);
        let tokens = |of: &[(i32, f64)]| of.iter().map(|(token, _)| *token).collect::<Vec<_>>();
        assert_eq!(tokens(&got), tokens(&kept), "{name}");
        for ((token, got), (_, want)) in got.iter().zip(&kept) {
            let near = (got - want).abs() <= 2e-5 * want.abs().max(0.05);
            assert!(near, "{name}: token {token} has {got}, not {want}");
        }
    }
}
