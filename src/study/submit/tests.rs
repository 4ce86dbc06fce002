use super::*;
use std::process::{Command, Stdio};

fn job() -> Job {
    Job {
        title: "A \"study\"\nof two lines".into(),
        command: ["/opt/it's here/wattention", "study", "--output-dir", "/shared/$x `y`"]
            .map(String::from)
            .into(),
        folder: "/".into(),
        logs: "/shared/logs".into(),
        cells: vec![0, 1, 2, 5, 7, 8],
        of: 9,
        throttle: Some(2),
        gpus: 2,
        cpus: Some(4),
        hours: Some(1.5),
        retries: 1,
        partition: Some("long".into()),
        place: Some(Place { image: "registry/wattention:1".into(), claim: "study".into() }),
    }
}

#[test]
fn slurm_gets_an_array_of_what_is_left() {
    let text = file(Engine::Slurm, &job()).unwrap();
    for option in [
        "array=0-2,5,7-8%2",
        "gres=gpu:2",
        "cpus-per-task=4",
        "time=90",
        "partition=long",
        "output=/shared/logs/cell-%a.log",
        "requeue",
        "signal=B:USR1@120",
    ] {
        assert!(text.contains(&format!("\n#SBATCH --{option}\n")), "{option} is not in\n{text}");
    }
    let spaced = Job { logs: "/a b/logs".into(), ..job() };
    assert_eq!(file(Engine::Slurm, &spaced).unwrap_err().exit_code(), 2);
}

/// The shell itself says how it reads the words.
#[test]
fn no_name_is_read_by_the_shell() {
    for engine in [Engine::Slurm, Engine::Parallel] {
        let text = file(engine, &job()).unwrap();
        let valid = Command::new("bash").args(["-n", "-c", &text]).output().unwrap();
        assert!(valid.status.success(), "{}", String::from_utf8_lossy(&valid.stderr));
    }
    for word in ["it's", "$x `y` \"z\"", "", "a\nb", "\\", "plain-word_1.2"] {
        let echoed =
            Command::new("bash").args(["-c", &format!("printf %s {}", quoted(word))]).output().unwrap();
        assert_eq!(String::from_utf8(echoed.stdout).unwrap(), word);
    }
}

#[test]
fn python_reads_its_files() {
    let without = Job { throttle: None, hours: None, ..job() };
    for engine in [Engine::Ray, Engine::Hyperqueue] {
        let text = file(engine, &without).unwrap();
        let mut python = Command::new("python3");
        python.args(["-c", "import ast, sys; ast.parse(sys.argv[1])", &text]).stdin(Stdio::null());
        match python.output() {
            Ok(parsed) => assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr)),
            Err(why) => println!("skipped: python3 does not start: {why}"),
        }
    }
    assert_eq!(file(Engine::Hyperqueue, &job()).unwrap_err().exit_code(), 2);
}

#[test]
fn kubernetes_runs_every_cell_by_its_index() {
    let text = file(Engine::Kubernetes, &job()).unwrap();
    let spec = serde_json::from_str::<Value>(&text).unwrap()["spec"].clone();
    assert_eq!((&spec["completions"], &spec["parallelism"]), (&Value::from(9), &Value::from(2)));
    let pod = &spec["template"]["spec"];
    let container = &pod["containers"][0];
    let command = container["command"].as_array().unwrap();
    assert_eq!(command.last().unwrap(), "$(JOB_COMPLETION_INDEX)");
    assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"], "2");
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/shared");
    assert_eq!(pod["volumes"][0]["persistentVolumeClaim"]["claimName"], "study");
    assert_eq!(file(Engine::Kubernetes, &Job { place: None, ..job() }).unwrap_err().exit_code(), 2);
}
