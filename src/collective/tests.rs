pub(crate) mod threads;

use super::window::PIECE;
use super::*;
use threads::{launches, ranks};

fn read(variables: &[(&str, &str)]) -> Result<Launch> {
    Launch::read_from(&|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
    })
}

const TORCHRUN: [(&str, &str); 8] = [
    ("RANK", "5"),
    ("WORLD_SIZE", "8"),
    ("LOCAL_RANK", "1"),
    ("LOCAL_WORLD_SIZE", "4"),
    ("MASTER_ADDR", "node1"),
    ("MASTER_PORT", "29500"),
    ("TORCHELASTIC_RUN_ID", "job7"),
    ("TORCHELASTIC_RESTART_COUNT", "2"),
];

#[test]
fn each_launcher_is_read_by_its_own_variables() {
    assert_eq!(read(&[]).unwrap().launcher, Launcher::None);
    let torchrun = read(&TORCHRUN).unwrap();
    assert_eq!((torchrun.launcher, torchrun.rank, torchrun.world_size), (Launcher::Torchrun, 5, 8));
    assert_eq!((torchrun.local_rank, torchrun.local_size, torchrun.restarts), (1, 4, 2));
    assert_eq!(torchrun.master.as_deref(), Some("node1:29500"));
    assert_eq!(torchrun.job.as_deref(), Some("job7"));
    // Three nodes of two ranks and one of one; as `srun` of SLURM 22.05 sets them.
    let step = [
        ("SLURM_PROCID", "6"),
        ("SLURM_STEP_NUM_TASKS", "7"),
        ("SLURM_LOCALID", "0"),
        ("SLURM_NODEID", "3"),
        ("SLURM_STEP_TASKS_PER_NODE", "2(x3),1"),
        ("SLURM_JOB_ID", "12"),
    ];
    let srun = read(&step).unwrap();
    assert_eq!((srun.launcher, srun.rank, srun.world_size), (Launcher::Srun, 6, 7));
    assert_eq!((srun.local_rank, srun.local_size), (0, 1));
    let mpirun = [
        ("OMPI_COMM_WORLD_RANK", "1"),
        ("OMPI_COMM_WORLD_SIZE", "2"),
        ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
        ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
    ];
    assert_eq!(read(&[&mpirun[..], &step].concat()).unwrap().launcher, Launcher::Mpirun);
    let pod =
        [("KUBERNETES_PORT", "tcp://10.0.0.1:443"), ("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "m")];
    let pod = read(&pod).unwrap();
    assert_eq!((pod.launcher, pod.rank, pod.local_rank, pod.local_size), (Launcher::Kubernetes, 1, 0, 1));
}

#[test]
fn a_script_of_slurm_without_srun_is_one_process() {
    let script =
        [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4"), ("SLURM_JOB_ID", "3"), ("SLURM_LOCALID", "0")];
    assert_eq!(read(&script).unwrap(), Launch::alone());
}

#[test]
fn contradictions_are_named_with_their_variables() {
    let refused = |changes: &[(&str, &str)], parts: &[&str]| {
        let with: Vec<(&str, &str)> = changes.iter().chain(&TORCHRUN).copied().collect();
        let error = read(&with).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        for part in parts {
            assert!(error.to_string().contains(part), "{error} does not say {part}");
        }
    };
    refused(&[("RANK", "8")], &["RANK is 8", "WORLD_SIZE is 8"]);
    refused(&[("RANK", "x")], &["RANK is 'x'"]);
    refused(&[("WORLD_SIZE", "0")], &["WORLD_SIZE is 0"]);
    refused(&[("WORLD_SIZE", "-1")], &["WORLD_SIZE is '-1'"]);
    refused(&[("WORLD_SIZE", "")], &["RANK is set and WORLD_SIZE is not"]);
    refused(&[("RANK", "")], &["WORLD_SIZE is set and RANK is not"]);
    refused(&[("LOCAL_RANK", "4")], &["LOCAL_RANK is 4"]);
    refused(&[("LOCAL_WORLD_SIZE", "9")], &["LOCAL_WORLD_SIZE is 9"]);
    refused(&[("TORCHELASTIC_RESTART_COUNT", "often")], &["TORCHELASTIC_RESTART_COUNT"]);
}

#[test]
fn ranks_of_a_machine_share_its_cores() {
    let of = |local_size| Launch { local_size, ..Launch::alone() };
    assert_eq!([of(1), of(2), of(3), of(16)].map(|launch| launch.threads(8)), [8, 4, 2, 1]);
}

/// Numbers of ranks and of elements: none, fewer than ranks, and more than are summed at a time by either way.
const SUMS: [(usize, usize); 8] =
    [(1, 3), (2, 1), (3, 10), (4, 0), (5, 3), (2, PIECE), (3, 2 * PIECE + 1), (5, BUCKET + 3)];

/// The sums of what `value` gives by rank and element, on each rank: in memory that they share, or over TCP.
fn summed(
    (size, count): (usize, usize),
    is_shared: bool,
    of: CommunicationType,
    value: impl Fn(usize, usize) -> f32 + Sync,
) -> Vec<Vec<f32>> {
    ranks(size, |group| {
        if !is_shared {
            let _ = group.window.set(None);
        }
        let mut values: Vec<f32> = (0..count).map(|i| value(group.rank(), i)).collect();
        group.sum(&mut values, of).unwrap();
        let has_window = group.window.get().is_some_and(Option::is_some);
        assert_eq!(has_window, is_shared && size > 1 && cfg!(target_os = "linux"));
        values
    })
}

/// Against the sum in f64, and bit for bit against the sum in the order of the ranks.
#[test]
fn sums_add_the_ranks_in_their_order() {
    let value = |rank: usize, i: usize| ((rank * 7919 + i * 104_729) % 1013) as f32 * 1e-3 - 0.5;
    for (case, is_shared) in SUMS.into_iter().flat_map(|case| [(case, true), (case, false)]) {
        let (size, count) = case;
        let all = summed(case, is_shared, CommunicationType::Fp32, value);
        let want: Vec<f32> =
            (0..count).map(|i| (1..size).fold(value(0, i), |sum, r| sum + value(r, i))).collect();
        for values in &all {
            let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
            assert!(values.iter().zip(&want).all(same), "{size} ranks, {count}, shared {is_shared}");
        }
        let exact = |i: usize| (0..size).map(|r| value(r, i) as f64).sum::<f64>();
        assert!((0..count).all(|i| (all[0][i] as f64 - exact(i)).abs() <= 1e-6));
    }
}

/// Bit for bit against what is defined, by `half`; and as near to the sum of what was not rounded as 8 bits of each part and
/// of the sum allow.
#[test]
fn sums_in_bf16_round_each_part_and_the_sum() {
    let rounded = |x: f32| half::bf16::from_f32(x).to_f32();
    let value = |rank: usize, i: usize| ((rank * 7919 + i * 104_729) % 1013) as f32 * 1e-3 - 0.4;
    let several = SUMS.into_iter().filter(|(size, _)| *size > 1);
    for (case, is_shared) in several.flat_map(|case| [(case, true), (case, false)]) {
        let (size, count) = case;
        let all = summed(case, is_shared, CommunicationType::Bf16, value);
        let sum = |i: usize| (1..size).fold(rounded(value(0, i)), |sum, r| sum + rounded(value(r, i)));
        for values in &all {
            let same = |(i, x): (usize, &f32)| x.to_bits() == rounded(sum(i)).to_bits();
            let all_same = values.iter().enumerate().all(same);
            assert!(all_same, "{size} ranks, {count}, shared {is_shared}");
        }
        let unit = f64::from(2f32.powi(-8));
        let mut differ = 0;
        for (i, got) in all[0].iter().enumerate() {
            let parts = (0..size).map(|r| value(r, i) as f64);
            let (exact, whole) = (parts.clone().sum::<f64>(), parts.map(f64::abs).sum::<f64>());
            let bound = unit * whole + unit * (exact.abs() + unit * whole) + 1e-6;
            assert!((*got as f64 - exact).abs() <= bound, "{got} for {exact}, {bound} apart at most");
            differ += usize::from((*got as f64 - exact).abs() > 1e-6);
        }
        assert!(count < 10 || differ > count / 2, "only {differ} of {count} are rounded");
    }
    // One process exchanges nothing.
    let mut alone = vec![1.0 / 3.0];
    Group::alone().sum(&mut alone, CommunicationType::Bf16).unwrap();
    assert_eq!(alone, [1.0f32 / 3.0]);
}

/// Parts of several pieces, ragged and empty ones.
#[test]
fn parts_are_shared_as_their_ranks_have_them() {
    let value = |rank: usize, i: usize| (rank * 7919 + i) as f32;
    for (size, lens) in
        [(2, &[PIECE + 5, PIECE][..]), (3, &[7, 0, PIECE]), (3, &[0, 0, 0]), (4, &[PIECE, PIECE, PIECE, 1])]
    {
        let end = |rank: usize| lens[..rank].iter().sum::<usize>();
        let parts: Vec<_> = (0..size).map(|rank| end(rank)..end(rank + 1)).collect();
        let want: Vec<f32> = parts
            .iter()
            .enumerate()
            .flat_map(|(rank, part)| part.clone().map(move |i| value(rank, i)))
            .collect();
        for is_shared in [true, false] {
            let all = ranks(size, |group| {
                if !is_shared {
                    let _ = group.window.set(None);
                }
                // Between sums, and one after the other, which all use the same memory.
                let mut values: Vec<f32> = (0..want.len()).map(|i| value(group.rank(), i)).collect();
                let mut sum = vec![];
                for _ in 0..20 {
                    group.share(&mut values, &parts, "parts").unwrap();
                    group.share(&mut values, &parts, "parts").unwrap();
                    sum = values.clone();
                    group.sum(&mut sum, CommunicationType::Fp32).unwrap();
                }
                (values, sum)
            });
            for (values, sum) in all {
                assert!(values == want, "{size} ranks, shared {is_shared}");
                let times = (1..size)
                    .fold(want.clone(), |sum, _| sum.iter().zip(&want).map(|(a, b)| a + b).collect());
                assert!(sum == times, "{size} ranks, shared {is_shared}: the sum behind");
            }
        }
    }
}

/// A rank that leaves without a word while others wait for it at memory that they share.
#[test]
#[cfg(target_os = "linux")]
fn a_rank_that_goes_is_missed_where_memory_is_shared() {
    let ends: Vec<Option<(tcp::Tcp, Lost)>> = std::thread::scope(|scope| {
        let rank = |launch: Launch| {
            let tcp = meeting::meet(&launch, Duration::from_secs(60), &|| false).unwrap();
            let window = Window::open(&tcp).unwrap().unwrap();
            let (mut values, awaited) = ([1.0; 100], watchdog::Awaited::default());
            window.sum::<f32>(&mut values, &tcp, &awaited).unwrap();
            assert_eq!(values, [3.0; 100]);
            let stays = tcp.rank() != 1;
            // Whoever stays keeps its connections until all have noticed.
            stays.then(|| window.sum::<f32>(&mut values, &tcp, &awaited).unwrap_err()).map(|lost| (tcp, lost))
        };
        let started: Vec<_> = launches(3).into_iter().map(|of| scope.spawn(move || rank(of))).collect();
        started.into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    assert!(ends[1].is_none());
    for end in [&ends[0], &ends[2]] {
        assert!(matches!(end, Some((_, Lost::Gone(1, _)))));
    }
}

#[test]
fn what_ranks_give_arrives_in_their_order_whatever_its_length() {
    let all = ranks(3, |group| {
        let mut bytes = vec![group.rank() as u8 + 1; 5 * (2 - group.rank())];
        let gathered = group.gather(&bytes);
        group.broadcast(&mut bytes);
        let mut values = [group.rank() as f32, 7.0];
        group.broadcast_values(&mut values);
        (gathered, bytes, values, group.most(group.rank() as i64 - 5))
    });
    for (gathered, bytes, values, most) in all {
        assert_eq!(gathered, [vec![1; 10], vec![2; 5], vec![]]);
        assert_eq!((bytes, values, most), (vec![1; 10], [0.0, 7.0], -3));
    }
    let alone = Group::alone();
    assert_eq!(alone.gather(&[1.5f64]), [[1.5]]);
    assert_eq!((alone.most(3), alone.rank(), alone.size()), (3, 0, 1));
}

#[test]
fn ranks_that_differ_are_named_on_all() {
    let all = ranks(3, |group| {
        group.agree("seed", "42").unwrap();
        let error = group.agree("settings", if group.rank() == 2 { "b" } else { "a" }).unwrap_err();
        (error.exit_code(), error.to_string())
    });
    for (code, text) in all {
        assert_eq!(code, 2);
        assert!(text.contains("rank 2") && text.contains("settings"), "{text}");
    }
}

/// An exchange whose other side leaves without a word.
#[test]
fn a_rank_that_goes_is_known_to_the_others() {
    let met = |launch: Launch| meeting::meet(&launch, Duration::from_secs(60), &|| false).unwrap();
    for size in [2, 3] {
        let ends: Vec<Option<Lost>> = std::thread::scope(|scope| {
            let rank = |launch: Launch| {
                let tcp = met(launch);
                let (ours, mut all) = (vec![1; 1 << 22], vec![0; size << 22]);
                tcp.all_gather(&ours, &mut all).unwrap();
                // The last rank leaves without a word.
                (tcp.rank() + 1 < size).then(|| tcp.all_gather(&ours, &mut all).unwrap_err())
            };
            let started: Vec<_> =
                launches(size).into_iter().map(|of| scope.spawn(move || rank(of))).collect();
            started.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        assert!(matches!(ends[0], Some(Lost::Gone(..))) && ends[size - 1].is_none());
        if size == 2 {
            assert!(matches!(ends[0], Some(Lost::Gone(1, _))));
        }
    }
}
