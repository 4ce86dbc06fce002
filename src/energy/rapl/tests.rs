use super::*;
use crate::energy::{self, Sampler, Window};
use tempfile::TempDir;

/// A powercap tree in a temporary folder.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Tree(TempDir::new().unwrap());
        // A control type, as every real tree has one: no zone, no counter.
        fs::create_dir(tree.0.path().join("intel-rapl")).unwrap();
        tree
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn with(self, zone: &str, name: &str, energy: u64) -> Self {
        let folder = self.path().join(zone);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("name"), format!("{name}\n")).unwrap();
        fs::write(folder.join("max_energy_range_uj"), "1000000\n").unwrap();
        self.set(zone, energy);
        self
    }

    fn set(&self, zone: &str, energy: u64) {
        fs::write(self.path().join(zone).join("energy_uj"), format!("{energy}\n")).unwrap();
    }

    fn open(&self) -> Rapl {
        Rapl::open(self.path()).unwrap()
    }

    fn refusal(&self) -> String {
        match Rapl::open(self.path()) {
            Ok(rapl) => panic!("it opened {}", rapl.name()),
            Err(why) => why.to_string(),
        }
    }
}

#[test]
fn packages_and_their_memory_count_once() {
    let zones = [
        ("intel-rapl:0", "package-0", 1),
        ("intel-rapl:0:0", "core", 10),
        ("intel-rapl:0:1", "uncore", 100),
        ("intel-rapl:0:2", "dram", 1_000),
        ("intel-rapl:1", "package-1", 10_000),
        ("intel-rapl:1:0", "dram", 100_000),
        ("intel-rapl:2", "psys", 200_000),
        ("intel-rapl-mmio:0", "package-0", 400_000),
        ("dtpm:0", "package-7", 800_000),
    ];
    let tree = zones.iter().fold(Tree::new(), |tree, (zone, name, _)| tree.with(zone, name, 5));
    let mut rapl = tree.open();
    let name = "RAPL: package-0, package-0 DRAM, package-1, package-1 DRAM; all that the machine did; ";
    assert!(rapl.name().starts_with(name), "{}", rapl.name());
    assert!(rapl.name().ends_with("counter every 50.0 ms, no power sensor"), "{}", rapl.name());
    assert_eq!(rapl.read().unwrap(), Joules(0.0));
    for (zone, _, spent) in zones {
        tree.set(zone, 5 + spent);
    }
    assert_eq!(rapl.read().unwrap(), Joules::from_micro(111_001));
}

#[test]
fn a_second_driver_adds_what_the_first_lacks() {
    let tree = Tree::new()
        .with("intel-rapl-tpmi:0", "package-0", 0)
        .with("intel-rapl-tpmi:0:0", "dram", 0)
        .with("intel-rapl:0", "package-0", 0)
        .with("intel-rapl:0:0", "core", 0);
    let mut rapl = tree.open();
    for (zone, energy) in [
        ("intel-rapl-tpmi:0", 1),
        ("intel-rapl-tpmi:0:0", 10),
        ("intel-rapl:0", 100),
        ("intel-rapl:0:0", 1000),
    ] {
        tree.set(zone, energy);
    }
    assert_eq!(rapl.read().unwrap(), Joules::from_micro(110));
}

#[test]
fn a_counter_that_wraps_goes_on() {
    let tree = Tree::new().with("intel-rapl:0", "package-0", 999_900);
    let mut rapl = tree.open();
    tree.set("intel-rapl:0", 300);
    assert_eq!(rapl.read().unwrap(), Joules::from_micro(400));
    tree.set("intel-rapl:0", 500);
    assert_eq!(rapl.read().unwrap(), Joules::from_micro(600));
}

#[test]
fn domains_wrap_each_by_itself_and_at_their_own_range() {
    let zones = [("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "dram"), ("intel-rapl:1", "package-1")];
    let tree = zones.iter().fold(Tree::new(), |tree, (zone, name)| tree.with(zone, name, 900_000));
    fs::write(tree.path().join("intel-rapl:0:0/max_energy_range_uj"), "2000000\n").unwrap();
    let mut rapl = tree.open();
    tree.set("intel-rapl:0", 100_000);
    tree.set("intel-rapl:0:0", 50_000);
    tree.set("intel-rapl:1", 950_000);
    // 0.2 J around a range of 1 J, 1.15 J around one of 2 J, and 0.05 J straight on.
    assert_eq!(rapl.read().unwrap(), Joules::from_micro(200_000 + 1_150_000 + 50_000));
    assert_eq!(rapl.read().unwrap(), Joules::from_micro(1_400_000), "nothing is counted twice");
}

#[test]
fn a_run_on_packages_and_memory_has_their_sum_and_a_peak() {
    let tree = Tree::new().with("intel-rapl:0", "package-0", 999_000).with("intel-rapl:0:0", "dram", 10);
    let sampler = Sampler::start(energy::open_at(tree.path())).unwrap();
    let window = Window::start(&sampler);
    // 1 W and 0.5 W for longer than ten periods of a counter whose period is not known better than 50 ms.
    for tenth in 1..=7 {
        std::thread::sleep(Duration::from_millis(100));
        tree.set("intel-rapl:0", (999_000 + tenth * 100_000) % 1_000_000);
        tree.set("intel-rapl:0:0", 10 + tenth * 50_000);
    }
    let measured = window.stop();
    assert_eq!(measured.energy.map(|energy| (energy.0 * 1e6).round()), Some(1_050_000.0));
    assert!(measured.peak_power.unwrap().0 > 0.5, "{measured:?}");
    assert_eq!((measured.integrated, measured.paper), (None, None), "there is no power sensor");
}

#[test]
fn a_machine_without_counters_says_so() {
    let nowhere = Tree::new().path().join("powercap");
    let why = Rapl::open(&nowhere).err().unwrap().to_string();
    assert!(why.starts_with("no sensor: this machine has no powercap counters"), "{why}");
    assert_eq!(Tree::new().refusal()[..10], why[..10]);
    let platform_only = Tree::new().with("intel-rapl:0", "psys", 0);
    assert!(platform_only.refusal().starts_with("no sensor"));
}

#[test]
fn an_unreadable_counter_is_named() {
    let tree = Tree::new().with("intel-rapl:0", "package-0", 0).with("intel-rapl:1", "package-1", 0);
    let counter = tree.path().join("intel-rapl:1/energy_uj");
    fs::write(&counter, "many").unwrap();
    assert!(tree.refusal().contains("'many' is not a number"));
    fs::remove_file(&counter).unwrap();
    fs::create_dir(&counter).unwrap();
    let why = tree.refusal();
    assert!(why.starts_with("cannot read"), "{why}");
    assert!(why.contains("intel-rapl:1/energy_uj"), "{why}");
}

#[test]
fn a_missing_permission_comes_with_the_remedy() {
    // Root may read everything, so no file of a test can be forbidden everywhere.
    let file = Path::new("/sys/class/powercap/intel-rapl:0/energy_uj");
    let why = refused(file, &ErrorKind::PermissionDenied.into()).to_string();
    assert!(why.starts_with("no permission to read /sys/class"), "{why}");
    assert!(why.contains("run as root") && why.contains("chmod a+r"), "{why}");
}

#[test]
fn without_a_sensor_there_is_time_and_a_reason() {
    let tree = Tree::new();
    let sampler = Sampler::start(energy::open_at(tree.path())).unwrap();
    assert!(sampler.name().starts_with("no sensor"), "{}", sampler.name());
    let measured = Window::start(&sampler).stop();
    assert_eq!((measured.energy, measured.power()), (None, None));
    assert_eq!(measured.note, sampler.name());
}

#[test]
fn a_sensor_may_vanish_while_in_use() {
    let tree = Tree::new().with("intel-rapl:0", "package-0", 0);
    let sampler = Sampler::start(energy::open_at(tree.path())).unwrap();
    let window = Window::start(&sampler);
    fs::remove_file(tree.path().join("intel-rapl:0/energy_uj")).unwrap();
    let measured = window.stop();
    assert_eq!(measured.energy, None);
    assert!(measured.note.contains("cannot read"), "{}", measured.note);
}

#[test]
fn the_update_period_is_seen_or_bounded() {
    assert_eq!(update_period(|| Ok(7)).unwrap(), POLL);
    let mut reads = 0;
    let lively = update_period(|| {
        reads += 1;
        Ok(reads)
    });
    assert!(lively.is_ok());
    assert!(reads <= CHANGES as u64 + 2, "{reads} readings");
    assert!(update_period(|| Err(Error::Device("gone".into()))).is_err());
}
