//! What several ranks refuse, by name.

use super::super::finetune::talkative;
use super::*;

/// One error, on all ranks, that names the one and what is wrong with it.
#[test]
fn ranks_that_differ_are_refused() {
    if !has_ranks() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let differs = "rank 1 differs from rank 0 in its settings";
    let refused = |one: Command, other: Command, parts: &[&str]| {
        let [first, second] = &together(&[one, other])[..] else { panic!("two ranks") };
        for part in parts {
            assert!(first.err.contains(part), "{}", first.err);
        }
        assert_eq!((first.code, second.code), (Some(2), Some(2)), "{} {}", first.err, second.err);
        assert_eq!(first.err.matches("error: rank 0 of 2 on ").count(), 1, "{}", first.err);
        assert_eq!(second.err, "", "the first has said it");
    };
    let finetune = |flags: &str| start(dir.path(), &format!("--threads 1 {flags}"));
    refused(finetune(""), finetune("--weight-decay 0.5"), &[differs]);
    refused(finetune(""), finetune("--communication-data-type bf16"), &[differs]);
    let model = talkative();
    let evaluate = |flags: &str| evaluation(model.path(), flags);
    refused(evaluate(""), evaluate("--batch-size 3"), &[differs]);
    refused(evaluate(""), evaluate("--num-beams 2"), &[differs]);
    // An error of all ranks is told by the first, with its own code.
    let missing = start(dir.path(), "--threads 1 --dataset nowhere");
    let refused = ran(&mut by(2, &missing));
    assert_eq!(refused.code, Some(66), "{}", refused.err);
    assert!(refused.err.contains("error: rank 0 of 2 on "), "{}", refused.err);
    assert!(!refused.err.contains("rank 1 of 2"), "{}", refused.err);
    let on_cpu = start(dir.path(), "--threads 1 --ddp-backend nccl");
    let refused = ran(&mut by(2, &on_cpu));
    refused.fails(2, &["--ddp-backend nccl is for ranks on GPUs", "leave it out"]);
}

/// Ranks by the variables alone, of which one is missing, comes twice, or finds its port taken.
#[test]
fn ranks_that_do_not_meet_say_with_whom() {
    let dir = tempfile::tempdir().unwrap();
    let command = start(dir.path(), "--threads 1 --ddp-timeout 1");
    let port = free_port();
    ran(&mut as_rank(&command, 0, 3, port)).fails(69, &["rank 1, 2 did not come", "--ddp-timeout"]);
    ran(&mut as_rank(&command, 1, 2, port)).fails(69, &["rank 0 was not met", &port.to_string()]);
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    ran(&mut as_rank(&command, 0, 2, port))
        .fails(69, &[&format!("port {port} (MASTER_PORT)"), "set another"]);
    drop(taken);
    // Whoever else comes to the port is no rank.
    let mut first = as_rank(&command, 0, 3, port).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until && first.try_wait().unwrap().is_none(), "nobody waits");
        std::thread::sleep(Duration::from_millis(2));
    }
    let second = |of: usize| as_rank(&command, 1, of, port).stderr(Stdio::piped()).spawn().unwrap();
    let pair = [second(3), second(3)].map(left);
    let first = left(first);
    assert_eq!(first.code, Some(2), "{}", first.err);
    assert!(first.err.contains("rank 1 of 3 on ") && first.err.contains("has it already"), "{}", first.err);
    assert!(pair.iter().all(|rank| rank.code == Some(2)), "{} {}", pair[0].err, pair[1].err);
}

/// One path that is another model on each machine, however its weights are kept.
#[test]
fn weights_that_differ_are_refused() {
    let (ours, theirs) = (talkative(), talkative());
    let file = theirs.path().join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let at = {
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        // A weight of a linear layer, which 8 bits keep apart from others.
        let name = tensors.names().into_iter().find(|name| name.ends_with("fc1.weight")).unwrap();
        tensors.tensor(name).unwrap().data().as_ptr() as usize - bytes.as_ptr() as usize
    };
    bytes[at..at + 4].copy_from_slice(&100f32.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    for flags in ["", "--weights int8"] {
        let (command, port) = (evaluation(Path::new("."), flags), free_port());
        let start = |rank: usize, dir: &Path| {
            let mut command = as_rank(&command, rank, 2, port);
            command.current_dir(dir).stderr(Stdio::piped()).spawn().unwrap()
        };
        let [first, second] = [start(0, ours.path()), start(1, theirs.path())].map(left);
        assert_eq!((first.code, second.code), (Some(2), Some(2)), "{} {}", first.err, second.err);
        assert!(first.err.contains("rank 1 differs from rank 0 in its weights"), "{}", first.err);
    }
}

/// Flags about exchanges are there where gradients are summed, and nowhere else.
#[test]
fn flags_of_ranks_without_a_use_are_refused() {
    let refused = |line: &str, parts: &[&str]| {
        ran(command().args(line.split_whitespace())).fails(2, parts);
    };
    let unknown = ["unexpected argument '--ddp-backend'"];
    refused("evaluate --model tiny-led --dataset qmsum-slice --ddp-backend host", &unknown);
    refused("generate --model tiny-led --input x --ddp-backend host", &unknown);
    refused("study --config x --ddp-backend host", &unknown);
    let idle = ["--ddp-backend: no --mode here sums gradients; leave it out"];
    refused("bench step --model tiny-led --mode encoder,forward --ddp-backend host", &idle);
    refused("profile step --model tiny-led --mode forward --ddp-backend host", &idle);
    let planned = "profile step --model tiny-led --plan-only --gpu h200";
    refused(&format!("{planned} --devices 2"), &["--devices: --plan-only runs nothing"]);
    refused(&format!("{planned} --ddp-backend host"), &["--ddp-backend: --plan-only runs nothing"]);
    refused(&format!("{planned} --zero-stage 1"), &["--zero-stage: --plan-only runs nothing"]);
    let bf16 = "bench step --model tiny-led --communication-data-type bf16";
    refused(&format!("{bf16} --mode forward"), &["--communication-data-type: no --mode here sums gradients"]);
    refused(bf16, &["--zero-stage and --communication-data-type are for several ranks", "--devices"]);
}

/// A command that nobody shares out is not done by every process of a launcher.
#[test]
fn other_commands_are_the_work_of_one_process() {
    let several = |line: &str| {
        let mut command = command();
        command.args(line.split_whitespace()).env("RANK", "0").env("WORLD_SIZE", "2");
        ran(&mut command)
    };
    for line in
        ["convert --model tiny-led --output-dir x", "bench limits", "data stats --dataset qmsum-slice"]
    {
        let words = line.split(" --").next().unwrap();
        several(line).fails(2, &[&format!("`{words}` is the work of one process"), "torchrun has started 2"]);
    }
    several("doctor --json").succeeds();
    let dir = tempfile::tempdir().unwrap();
    let inputs = dir.path().join("x.safetensors");
    fs::write(&inputs, "").unwrap();
    let mut generate = command();
    generate.args(["generate", "--model", "tiny-led", "--inputs"]).arg(&inputs).arg("--output").arg(&inputs);
    let refused = ran(&mut by(2, &generate));
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    assert!(refused.err.contains("--inputs is one batch"), "{}", refused.err);
}

#[test]
fn what_launchers_say_wrongly_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |variables: &[(&str, &str)], code: i32, parts: &[&str]| {
        ran(start(dir.path(), "").envs(variables.iter().copied())).fails(code, parts);
    };
    refused(&[("RANK", "2"), ("WORLD_SIZE", "2")], 2, &["RANK is 2", "WORLD_SIZE"]);
    refused(&[("RANK", "0")], 2, &["WORLD_SIZE"]);
    refused(&[("OMPI_COMM_WORLD_RANK", "one"), ("OMPI_COMM_WORLD_SIZE", "2")], 2, &["OMPI_COMM_WORLD_RANK"]);
    refused(
        &[("RANK", "0"), ("WORLD_SIZE", "2")],
        2,
        &["torchrun started 2 ranks", "MASTER_ADDR:MASTER_PORT"],
    );
    refused(&[("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "h")], 2, &["MASTER_PORT is 'h'"]);
    if !cfg!(feature = "mpi") {
        let mpirun = [("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "2")];
        refused(&mpirun, 2, &["mpirun started 2 ranks", "--features mpi"]);
    }
    let many = [("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2"), ("LOCAL_RANK", "0")];
    ran(start(dir.path(), "--devices 3").envs(many))
        .fails(2, &["--devices 3: torchrun has started 2 ranks here"]);
    let doctor = |variables: &[(&str, &str)]| {
        let mut command = command();
        ran(command.args(["doctor", "--json"]).envs(variables.iter().copied())).json()["ranks"].clone()
    };
    let alone = doctor(&[]);
    assert_eq!(
        (&alone["launch"]["world_size"], &alone["mpi"]),
        (&Value::from(1), &Value::from(cfg!(feature = "mpi")))
    );
    let second =
        doctor(&[("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "2")]);
    assert_eq!((&second["launch"]["launcher"], &second["launch"]["rank"]), (&"torchrun".into(), &1.into()));
    assert!(doctor(&[("RANK", "5")])["problem"].as_str().unwrap().contains("WORLD_SIZE"));
}
