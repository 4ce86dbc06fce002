//! Ranks on GPUs, with a stand-in for NCCL that sums between processes.

use super::{StandIns, on, refused, stand_ins, training};
use std::path::Path;
use std::process::Command;
use wattention::device::cuda::Library;

/// Two ranks that make 5 steps, each on a GPU of its own.
fn two(folder: &Path, device: &str, faults: &str, flags: &str) -> Command {
    let line = format!("{} --devices 2 {flags}", training(device));
    let mut command = on(folder, "gpus=2,fill=0,log=1", &line);
    command.env("FAKE_NCCL", faults);
    command
}

/// What a command that succeeds says on stderr.
#[track_caller]
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{err}");
    err
}

/// The numbers that follow `before` in the lines of both ranks.
fn numbers(text: &str, before: &str, after: &str) -> Vec<u64> {
    let lines = text.lines().filter(|line| line.contains(before) && line.ends_with(after));
    let words = lines.map(|line| line.strip_suffix(after).unwrap().trim().rsplit(' ').next().unwrap());
    words.map(|word| word.parse().unwrap()).collect()
}

#[test]
fn gradients_go_from_gpu_to_gpu() {
    let Some(StandIns { both, ranks, .. }) = stand_ins() else { return };
    let err = said(&mut two(ranks, "cuda", "log=1", ""));
    for rank in [0, 1] {
        assert!(err.contains(&format!("fake nccl: rank {rank} of 2, Ring, Simple")), "{err}");
        assert!(err.contains(&format!("fake nccl: rank {rank} ends after 5 sums, 0 broadcasts")), "{err}");
    }
    let (summed, copied) = (numbers(&err, "5 sums", " bytes"), numbers(&err, "copies", " bytes to the host"));
    assert!(summed.len() == 2 && !copied.is_empty(), "{err}");
    let gradients = summed[0] / 5;
    assert!(gradients > 1000 && copied.iter().all(|&bytes| bytes < gradients / 10), "{err}");

    // Asked for, they go over the hosts, for which nobody needs NCCL.
    let err = said(&mut two(both, "cuda", "", "--ddp-backend host"));
    let copied = numbers(&err, "copies", " bytes to the host");
    assert!(!copied.is_empty() && copied.iter().all(|&bytes| bytes >= 5 * gradients), "{err}");

    let err = said(two(ranks, "cuda", "log=1", "").env("NCCL_ALGO", "Tree"));
    assert!(err.contains("rank 0 of 2, Tree, Simple") && err.contains("rank 1 of 2, Tree, Simple"), "{err}");
}

#[test]
fn a_run_with_a_part_of_the_state_on_each_gpu_gathers_its_weights_there() {
    let Some(StandIns { ranks, .. }) = stand_ins() else { return };
    let root = env!("CARGO_MANIFEST_DIR");
    let dir = tempfile::tempdir().unwrap();
    let finetune = |stage: u8| {
        let line = format!(
            "finetune --quiet --model {root}/weights/tiny-led --dataset qmsum-slice --no-cache --max-steps 3 \
             --max-source-length 64 --max-target-length 16 --max-train-samples 12 --max-eval-samples 1 --no-predict \
             --per-device-train-batch-size 1 --zero-stage {stage} --devices 2 --device cuda --output-dir {}/{stage}",
            dir.path().display()
        );
        said(on(ranks, "gpus=2,fill=0", &line).env("FAKE_NCCL", "log=1"))
    };
    for (stage, broadcasts) in [(0, 1), (1, 1 + 3 * 2)] {
        let err = finetune(stage);
        for rank in [0, 1] {
            let ends = format!("fake nccl: rank {rank} ends after 3 sums, {broadcasts} broadcasts");
            assert!(err.contains(&ends), "{err}");
        }
    }
}

#[test]
fn a_rank_that_dies_hangs_or_differs_ends_all() {
    let Some(StandIns { ranks, .. }) = stand_ins() else { return };
    // The first sum begins when all are there, and the third within the backward pass.
    for (faults, parts) in [
        ("log=1,die=1", ["rank 1 has gone at step 0 (sum of gradients)", "rank 0 gives up after 0 sums"]),
        ("die=3", ["rank 1 has gone at step 0", "finetune resumes with --resume auto"]),
    ] {
        let output = two(ranks, "cuda", faults, "").output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{err}");
        assert!(parts.iter().all(|part| err.contains(part)), "{err}");
    }

    let output = two(ranks, "cuda", "hang=3", "--ddp-timeout 2").output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{err}");
    assert!(err.contains("another rank has not answered for 2s (--ddp-timeout)"), "{err}");

    let output = two(ranks, "cuda", "short=2", "").env("FAKE_CUDA", "gpus=2,fill=0").output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("rank 0 calls all-reduce of"), "{err}");
    refused(
        &output,
        69,
        &[
            "at step 0 (sum of gradients): NCCL cannot exchange",
            "(ncclResult_t 5)",
            "NCCL_DEBUG=WARN",
            "--ddp-backend host",
        ],
    );
}

#[test]
fn what_nccl_cannot_do_is_said_in_one_line() {
    let Some(StandIns { both, ranks, hollow_ranks, .. }) = stand_ins() else { return };
    let refusal = |folder: &Path, device: &str, faults: &str, parts: &[&str]| {
        let output = two(folder, device, faults, "").env("FAKE_CUDA", "gpus=2,fill=0").output();
        refused(&output.unwrap(), 69, parts);
    };
    let parts = ["NCCL here is 2.13.4", "2.14.0 or newer", "pip install", "--ddp-backend host"];
    refusal(ranks, "cuda", "version=21304", &parts);
    refusal(
        hollow_ranks,
        "cuda",
        "",
        &["NCCL 2.28.9 here lacks what this program calls", "install it again"],
    );
    let parts =
        ["ranks 0 and 1 have the same GPU (00112233-4455-6677-8899-aabbccddee00)", "CUDA_VISIBLE_DEVICES"];
    refusal(ranks, "cuda:0", "", &parts);
    if Library::Nccl.load() {
        return println!("skipped: NCCL is here");
    }
    refusal(both, "cuda", "", &["NCCL is not here (libnccl.so.2)", "pip install", "--ddp-backend host"]);
}

#[test]
fn doctor_knows_nccl() {
    let Some(StandIns { ranks, .. }) = stand_ins() else { return };
    let report = |line: &str| {
        let output = on(ranks, "", line).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let place = ranks.join("libnccl.so.2");
    assert!(report("doctor").contains(&format!("libnccl      2.28.9 {}", place.display())));
    let json: serde_json::Value = serde_json::from_str(&report("doctor --json")).unwrap();
    assert_eq!(json["libraries"][3]["version"], "2.28.9");
    assert_eq!(json["libraries"][3]["path"].as_str(), place.to_str());
}
