//! Against a real engine: what is written is there, what is refused is told apart, and the
//! migrations survive whatever comes between.

mod cluster;
mod columns;
mod faults;
mod migrating;
mod refusing;
mod support;
mod tables;
mod writing;
