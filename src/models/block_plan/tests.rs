//! Expected plans were drawn by transformers 5.17 on numpy, in training mode.

use super::*;
use sha2::{Digest, Sha256};

const PEGASUS: PlanConfig = PlanConfig { block_size: 64, num_random_blocks: 3, max_position: 4096 };

fn drawn(layer: u32, heads: usize, seq_len: usize, cfg: &PlanConfig) -> Vec<i32> {
    random_blocks(layer, heads, seq_len, cfg, RandomBlocks::Drawn).unwrap()
}

/// Rows `from..` of one head of the released model's plan, as `a b c | d e f`.
fn rows(layer: u32, head: usize, seq_len: usize, from: usize, count: usize) -> String {
    let plan = drawn(layer, 16, seq_len, &PEGASUS);
    let start = (head * (seq_len / 64 - 2) + from) * 3;
    let row = |r: &[i32]| format!("{} {} {}", r[0], r[1], r[2]);
    let rows: Vec<_> = plan[start..start + 3 * count].chunks(3).map(row).collect();
    rows.join(" | ")
}

/// SHA-256 of the plans as little-endian int32.
fn digest(plans: impl IntoIterator<Item = Vec<i32>>) -> String {
    let mut digest = Sha256::new();
    for block in plans.into_iter().flatten() {
        digest.update(block.to_le_bytes());
    }
    let bytes = digest.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn released_plan_rows_equal_the_reference() {
    assert_eq!(
        rows(0, 0, 1024, 0, 14),
        "9 14 7 | 9 6 7 | 10 5 14 | 6 8 12 | 2 13 1 | 4 11 3 | 1 10 5 | 2 3 15 | 13 11 14 | \
         15 13 8 | 9 7 4 | 1 2 5 | 8 9 7 | 2 6 5"
    );
    assert_eq!(rows(0, 1, 1024, 0, 3), "6 11 10 | 8 4 12 | 12 11 10");
    assert_eq!(rows(7, 5, 1024, 0, 3), "14 13 5 | 4 12 15 | 13 10 6");
    assert_eq!(rows(0, 0, 2048, 0, 8), "4 6 7 | 4 7 6 | 1 8 5 | 9 7 2 | 2 7 3 | 1 4 8 | 2 3 1 | 6 4 2");
    assert_eq!(rows(0, 0, 2048, 28, 2), "5 3 1 | 6 8 4");
    assert_eq!(rows(0, 1, 2048, 0, 3), "3 5 4 | 6 7 9 | 1 7 6");
    assert_eq!(rows(7, 5, 2048, 0, 3), "8 6 4 | 8 5 4 | 9 7 5");
    assert_eq!(rows(3, 2, 4096, 12, 3), "3 7 6 | 5 6 1 | 3 1 7");
    assert_eq!(rows(3, 2, 4096, 61, 1), "9 4 5");
    assert_eq!(rows(15, 0, 3072, 0, 1), "13 5 15");
}

#[test]
fn released_plans_equal_the_reference_in_every_layer_and_head() {
    for (seq_len, expected) in [
        (1024, "859fcf0ee6255a717bb0e57c04bbd7191af5de819a783bc59ccedd6883abdf79"),
        (2048, "96a8d9da702379273767b1f13b878f2b29b014556a6264f2e411a4138d2dad6a"),
        (3072, "9c479a857b71a2bbd66ef19d6ce3f4410fcba518f90476a56dae430c51a53bf3"),
        (4096, "30418e735226b5e7dc15eac561322d3c3bfd0f001f7cee9c56d6d8090cb10fef"),
    ] {
        let hex = digest((0..16).map(|layer| drawn(layer, 16, seq_len, &PEGASUS)));
        assert_eq!(hex, expected, "S = {seq_len}");
    }
}

#[test]
fn a_single_candidate_fills_its_row() {
    let cfg = PlanConfig { block_size: 192, num_random_blocks: 2, max_position: 4096 };
    assert_eq!(
        drawn(2, 1, 3072, &cfg),
        [4, 3, 4, 4, 1, 1, 1, 2, 3, 1, 1, 2, 4, 2, 1, 3, 2, 1, 3, 2, 2, 1, 2, 1, 4, 1, 3, 1]
    );
}

#[test]
fn unusual_layouts_equal_the_reference() {
    let cases: [(u32, usize, usize, [usize; 3], &str); 6] = [
        // Two segments, both drawn from: needs many random blocks in few blocks.
        (4, 2, 336, [16, 8, 4096], "8b9ac0555f6f612ac85bd8af5a1082c282d73463fa3625aad7624dd6c6faff90"),
        // One segment, with rows of a single candidate.
        (1, 2, 96, [16, 2, 96], "fd5fdaa6d37bd389a1a2f6ab0ce9621aa8e40f6e23d5beca6961367b17139f92"),
        // Two segments, the second without random blocks.
        (5, 3, 640, [16, 3, 1024], "7556ac236b3d81cfbd0ff12ee36c0841e0aa44482d8d50a005ca6cca00b02d19"),
        // The original rule: other block sizes, and positions that are no whole number of blocks.
        (9, 4, 1024, [16, 3, 1024], "be0ba604cf729eadfe6d145fad765dd7d5e7f83d5ad91c1e7f10f03dc1dfb374"),
        (2, 2, 1024, [128, 1, 4100], "e10050fa8d92e5f935743d4805c4d2fde4125acf8436a7a9075e145848b63724"),
        (11, 2, 4096, [16, 3, 8192], "cbc0d1c338ed4d9758b7d55544d62b8136b82238d5add87dd43da2329e535605"),
    ];
    for (layer, heads, seq_len, [block_size, num_random_blocks, max_position], expected) in cases {
        let cfg = PlanConfig { block_size, num_random_blocks, max_position };
        let digest = digest([drawn(layer, heads, seq_len, &cfg)]);
        assert_eq!(digest, expected, "S = {seq_len}, {cfg:?}");
    }
}

#[test]
fn evaluation_uses_block_zero_throughout() {
    let plan = random_blocks(3, 2, 1024, &PEGASUS, RandomBlocks::EvalZero).unwrap();
    assert_eq!(plan, vec![0; 2 * 14 * 3]);
    let table = block_table(3, 2, 1024, &PEGASUS, RandomBlocks::EvalZero).unwrap();
    let row: Vec<_> = table.row(1, 5).collect();
    assert_eq!(row, [(0, 4), (4, 1), (5, 1), (6, 1), (15, 1)]);
}

#[test]
fn rows_merge_repeated_blocks() {
    let table = block_table(0, 16, 1024, &PEGASUS, RandomBlocks::Drawn).unwrap();
    let all: Vec<_> = (0..16).map(|b| (b, 1)).collect();
    assert_eq!(table.row(0, 0).collect::<Vec<_>>(), all);
    assert_eq!(table.row(7, 15).collect::<Vec<_>>(), all);
    // Block 1 drew 9 14 7; block 8 drew 2 3 15, and 15 is also the last global block.
    let row: Vec<_> = table.row(0, 1).collect();
    assert_eq!(row, [(0, 1), (1, 1), (2, 1), (7, 1), (9, 1), (14, 1), (15, 1)]);
    let row: Vec<_> = table.row(0, 8).collect();
    assert_eq!(row, [(0, 1), (2, 1), (3, 1), (7, 1), (8, 1), (9, 1), (15, 2)]);
}

#[test]
fn every_row_of_the_table_holds_the_softmax_multiset() {
    for seq_len in [768, 1024, 2048, 4096] {
        let table = block_table(5, 3, seq_len, &PEGASUS, RandomBlocks::Drawn).unwrap();
        let n = seq_len / 64;
        assert_eq!(table.row_ptr.len(), 3 * (n + 1));
        for head in 0..3 {
            for b in 0..n {
                let total: i32 = table.row(head, b).map(|(_, count)| count).sum();
                let expected = match b {
                    _ if b == 0 || b == n - 1 => n,
                    _ if b == 1 || b == n - 2 => 7,
                    _ => 8,
                };
                assert_eq!(total as usize, expected, "S {seq_len} head {head} row {b}");
                assert!(table.row(head, b).is_sorted_by(|a, z| a.0 < z.0));
            }
        }
    }
}

#[test]
fn the_inverse_lists_every_pair_from_the_other_side() {
    let table = block_table(1, 2, 1024, &PEGASUS, RandomBlocks::Drawn).unwrap();
    let inverse = table.inverse();
    assert_eq!(inverse.inverse(), table);
    assert_ne!(inverse, table);
    for (query, count) in inverse.row(1, 9) {
        assert!(table.row(1, query as usize).any(|pair| pair == (9, count)));
    }
}

#[test]
fn short_inputs_attend_fully() {
    assert!(uses_full_attention(704, &PEGASUS));
    assert!(!uses_full_attention(705, &PEGASUS));
}

#[test]
fn what_the_reference_cannot_draw_is_an_error_with_a_remedy() {
    let message = |seq_len, block_size, max_position| {
        let cfg =
            PlanConfig { block_size, num_random_blocks: if block_size == 512 { 1 } else { 3 }, max_position };
        block_table(0, 1, seq_len, &cfg, RandomBlocks::Drawn).unwrap_err().to_string()
    };
    assert!(message(1000, 64, 4096).contains("multiple of 64"));
    assert!(message(128, 64, 4096).contains("full attention"));
    assert!(message(256, 64, 4096).contains("query block 1"));
    assert!(message(4096, 256, 4096).contains("query block 2"));
    assert!(message(3072, 64, 2048).contains("max_position_embeddings"));
    assert!(message(4096, 512, 8192).contains("there are 8 blocks"));
    assert!(message(1024, 0, 4096).contains("block_size"));
}

#[derive(serde::Deserialize)]
struct Golden {
    layer: u32,
    seq_len: usize,
    block_size: usize,
    num_random_blocks: usize,
    heads: usize,
    max_position: usize,
    full_attention: bool,
    #[serde(default)]
    raises: bool,
    #[serde(default)]
    sha256: String,
    #[serde(default)]
    head_0: Vec<Vec<i32>>,
}

#[test]
fn golden_plans_equal_the_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/bigbird_plans.json");
    let goldens: Vec<Golden> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(goldens.iter().any(|g| g.raises) && goldens.iter().any(|g| !g.full_attention));
    for g in goldens {
        let cfg = PlanConfig {
            block_size: g.block_size,
            num_random_blocks: g.num_random_blocks,
            max_position: g.max_position,
        };
        let case = format!("layer {} of {} tokens, {cfg:?}", g.layer, g.seq_len);
        assert_eq!(uses_full_attention(g.seq_len, &cfg), g.full_attention, "{case}");
        let plan = random_blocks(g.layer, g.heads, g.seq_len, &cfg, RandomBlocks::Drawn);
        assert_eq!(plan.is_err(), g.raises, "{case}");
        if let Ok(plan) = plan {
            let head: Vec<_> = plan.chunks(g.num_random_blocks).map(<[i32]>::to_vec).collect();
            assert_eq!(head[..g.head_0.len()], g.head_0, "{case}");
            assert_eq!(digest([plan]), g.sha256, "{case}");
        }
    }
}
