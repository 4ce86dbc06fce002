//! The simulator against kernels with one planted fault each, all of which must be named, and its graphs.

#[cfg(wattention_sim)]
mod graph;
#[cfg(wattention_sim)]
mod planted;
#[cfg(wattention_sim)]
mod planted_hopper;
#[cfg(wattention_sim)]
mod planted_maps;
#[cfg(wattention_sim)]
mod steps;

#[cfg(not(wattention_sim))]
#[test]
fn the_simulator() {
    println!("skipped: there is no C++ compiler");
}
