//! What becomes of each event when things break: one test for each case with an exact expectation,
//! on real servers, with the real binary.

#![expect(clippy::print_stdout, reason = "figures and skipped tests are told")]

mod cluster;
mod crashes;
mod disks;
mod lifecycle;
mod limits;
mod outages;
mod packed;
mod pipelines;
mod planted_bugs;
mod power_cuts;
mod seeds;
mod support;
