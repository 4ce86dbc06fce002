//! Ranks on GPUs, with a stand-in for NCCL that sums between processes.

use super::{StandIns, on, refused, stand_ins, training};
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
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
        // From the fourth step on the sum is part of a graph.
        assert!(err.contains(&format!("fake nccl: rank {rank}: 1 exchanges recorded, 2 replayed")), "{err}");
        assert!(
            err.contains(&format!("fake nccl: rank {rank} ends after 5 sums, 0 reductions, 0 broadcasts")),
            "{err}"
        );
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
    // Of two shards, each step: one sum for each rank, and one part from each.
    for (stage, [sums, reductions, broadcasts]) in [(0, [3, 0, 1]), (1, [0, 3 * 2, 1 + 3 * 2])] {
        let err = finetune(stage);
        for rank in [0, 1] {
            let ends = format!(
                "fake nccl: rank {rank} ends after {sums} sums, {reductions} reductions, {broadcasts} broadcasts"
            );
            assert!(err.contains(&ends), "{err}");
        }
    }
}

/// Half the bytes, from a copy that the plan knows; and memory for NCCL is asked for before it takes it.
#[test]
fn gradients_in_bf16_are_half_the_bytes_of_a_copy_that_is_planned() {
    let Some(StandIns { ranks, .. }) = stand_ins() else { return };
    let root = env!("CARGO_MANIFEST_DIR");
    let dir = tempfile::tempdir().unwrap();
    let finetune = |of: &str, settings: &str, flags: &str| {
        let line = format!(
            "finetune --quiet --json --model {root}/weights/tiny-led --dataset qmsum-slice --no-cache --max-steps 3 \
             --max-source-length 64 --max-target-length 16 --max-train-samples 12 --max-eval-samples 1 --no-predict \
             --devices 2 --device cuda --communication-data-type {of} --output-dir {} --overwrite-output-dir {flags}",
            dir.path().join(of).display()
        );
        let mut command = on(ranks, settings, &line);
        command.env("FAKE_NCCL", "log=1").output().unwrap()
    };
    let sizes = |of: &str| {
        let output = finetune(of, "gpus=2,fill=0", "--per-device-train-batch-size 1");
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{err}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let summed = numbers(&err, "ends after 3 sums, 0 reductions, 1 broadcasts", " bytes");
        assert_eq!(summed.len(), 2, "{err}");
        assert_eq!(report["planned_bytes"], report["used_bytes"], "{of}");
        (summed[0], report["planned_bytes"].as_u64().unwrap())
    };
    let ((fp32, plan), (bf16, with_copy)) = (sizes("fp32"), sizes("bf16"));
    // Three sums and one broadcast of the weights, which stay in fp32.
    let slab = fp32 / 4;
    assert_eq!((bf16, with_copy - plan), (slab + 3 * slab / 2, slab / 2));

    // Some 300 MiB, when the libraries have theirs: more than the plan, and less than the 640 MiB of NCCL for two ranks.
    let scarce = "gpus=2,fill=0,free=750000000";
    let output = finetune("fp32", scarce, "--per-device-train-batch-size 1");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{err}");
    assert!(err.contains("and about 640.0 MiB for NCCL"), "{err}");
    let output = finetune("fp32", scarce, "--per-device-train-batch-size 1 --ddp-backend host");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_rank_that_dies_hangs_or_differs_ends_all() {
    let Some(StandIns { ranks, .. }) = stand_ins() else { return };
    // The first sum begins when all are there, the third within the backward pass, and the fifth is part of a graph.
    for (faults, parts) in [
        ("log=1,die=1", ["rank 1 has gone at step 0 (sum of gradients)", "rank 0 gives up after 0 sums"]),
        ("die=3", ["rank 1 has gone at step 0", "finetune resumes with --resume auto"]),
        (
            "log=1,die=5",
            ["rank 1 has gone at step 0 (step with its exchanges)", "rank 0 gives up after 4 sums"],
        ),
    ] {
        let output = two(ranks, "cuda", faults, "").output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{err}");
        assert!(parts.iter().all(|part| err.contains(part)), "{err}");
        assert!(!err.contains("waits for graphs"), "{err}");
    }

    for faults in ["hang=3", "hang=5"] {
        let output = two(ranks, "cuda", faults, "--ddp-timeout 2").output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{err}");
        // Whichever looks first ends both.
        let said =
            |rank: usize| err.contains(&format!("rank {rank} has not answered for 2s (--ddp-timeout)"));
        assert!(said(0) || said(1), "{err}");
    }

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

/// What the first of two ranks prints, each of which has a GPU of its own that draws so many watts.
fn metered(folder: &Path, line: &str, watts: [u32; 2]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let started = watts.iter().enumerate().map(|(rank, watts)| {
        let meter = dir.path().join(format!("{rank}.jsonl"));
        let line_at = |i: u32| {
            format!("{{\"time_s\": {}, \"energy_j\": {}}}\n", f64::from(i) / 1e3, f64::from(i * watts) / 1e3)
        };
        std::fs::write(&meter, (0..200).map(line_at).collect::<String>()).unwrap();
        let mut command = on(folder, "gpus=2,fill=0", line);
        command.env("MASTER_ADDR", "localhost").env("MASTER_PORT", &port);
        command.env("WATTENTION_METER", format!("replay:{}", meter.display()));
        command.env("RANK", rank.to_string()).env("WORLD_SIZE", "2");
        command.env("LOCAL_RANK", rank.to_string()).env("LOCAL_WORLD_SIZE", "2");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    let started: Vec<_> = started.collect();
    let outputs: Vec<_> = started.into_iter().map(|rank| rank.wait_with_output().unwrap()).collect();
    for output in &outputs {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&outputs[0].stdout).unwrap()
}

/// The joules of a sample are those of both GPUs over the samples of both.
#[test]
fn joules_are_of_all_gpus() {
    let Some(StandIns { ranks, .. }) = stand_ins() else { return };
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    // 100 W and 300 W, by counters that move every millisecond.
    let both = |energy: &Value, report: &Value| {
        let (joules, time) = (number(&energy["energy_j"]), number(&energy["time_s"]));
        assert!((joules / time / 400.0 - 1.0).abs() < 0.2, "{joules} J in {time} s");
        let devices = report["ranks"]["devices"].as_array().unwrap();
        let uuids: Vec<&str> = devices.iter().map(|of| of["device"].as_str().unwrap()).collect();
        assert!(uuids.len() == 2 && uuids[0].ends_with("00") && uuids[1].ends_with("01"), "{uuids:?}");
        let each: Vec<f64> = devices.iter().map(|of| number(&of["energy_j"])).collect();
        assert!((each[1] / each[0] / 3.0 - 1.0).abs() < 0.2, "{each:?}");
        assert!((each.iter().sum::<f64>() - joules).abs() < 1e-6 * joules, "{each:?} and {joules}");
        let sum = number(&report["ranks"]["energy_j"]);
        assert!((sum - joules).abs() < 1e-6 * joules, "{sum} and {joules}");
    };
    let per_sample = |efficiency: &Value, window: &Value| {
        let joules = number(&efficiency["joules_per_sample"]) * number(&efficiency["samples"]);
        assert!((joules / number(&window["energy_j"]) - 1.0).abs() < 1e-9, "{efficiency} of {window}");
        assert!((number(&window["mean_power_w"]) / 400.0 - 1.0).abs() < 0.3, "{window}");
    };

    let report = metered(ranks, &training("cuda"), [100, 300]);
    both(&report["energy"], &report);
    // 5 steps of 2 ranks.
    let joules = number(&report["joules_per_sample"]) * 10.0;
    assert!((joules / number(&report["energy"]["energy_j"]) - 1.0).abs() < 1e-9, "{joules}");

    let root = env!("CARGO_MANIFEST_DIR");
    let dir = tempfile::tempdir().unwrap();
    let of = format!(
        "--model {root}/weights/tiny-led --dataset qmsum-slice --json --device cuda --max-source-length 64"
    );
    let report = metered(
        ranks,
        &format!(
            "finetune {of} --no-cache --max-steps 8 --max-train-samples 12 --max-target-length 16 --max-eval-samples 1 \
             --per-device-train-batch-size 1 --no-predict --save-steps 4 --output-dir {}",
            dir.path().join("run").display()
        ),
        [100, 300],
    );
    let energy = &report["energy"];
    both(&energy["whole"], &report);
    per_sample(&energy["training"], &energy["windows"]["training"]);
    // Of both ranks.
    assert_eq!(energy["training"]["samples"], report["train"]["train_samples"]);
    let written: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("run/energy.json")).unwrap()).unwrap();
    assert_eq!(written["whole"]["energy_j"], energy["whole"]["energy_j"]);

    let report = metered(
        ranks,
        &format!("evaluate {of} --max-samples 5 --batch-size 1 --max-new-tokens 48"),
        [100, 300],
    );
    let energy = &report["energy"];
    both(&energy["whole"], &report);
    per_sample(&energy["predicted"], &energy["windows"]["evaluation"]);
    assert_eq!(energy["predicted"]["samples"], 5);
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
