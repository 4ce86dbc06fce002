//! Ranks that start each other, and the same bits over whatever they talk by.

use super::*;

#[test]
fn devices_start_their_own_ranks() {
    if !has_ranks() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let report = ran(&mut start(dir.path(), "--threads 1 --devices 2 --json")).json();
    assert_eq!(report["ranks"]["world_size"], 2);
    assert!(report["ranks"]["exchange_runtime"].as_f64().unwrap() > 0.0);
    // Steps of 2 ranks x 2 examples.
    assert_eq!(report["train"]["train_samples"], 24);
}

/// Sums are in the order of the ranks, whatever moves the parts.
#[test]
fn mpi_and_tcp_give_the_same_bits() {
    if !cfg!(feature = "mpi") {
        println!("skipped: built without MPI (cargo test --features mpi)");
        return;
    }
    if !has_ranks() {
        return;
    }
    let flags = "--per-device-train-batch-size 1";
    let (mpi, tcp) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    ran(&mut run(mpi.path(), 3, flags)).succeeds();
    ran(run(tcp.path(), 1, flags).args(["--devices", "3"])).succeeds();
    assert!(model(mpi.path()) == model(tcp.path()));
    assert_eq!(predictions(mpi.path()), predictions(tcp.path()));
    assert_eq!(events(&mpi.path().join("run")), events(&tcp.path().join("run")));
}
