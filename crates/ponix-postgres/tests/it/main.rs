//! Against a real PostgreSQL: what is written is there once, what is wrong fails alone, and kills,
//! rivals and several instances change nothing about it.

mod encryption;
mod extending;
mod faults;
mod guarding;
mod migrating;
mod partitions;
mod statuses;
mod support;
mod table;
mod writing;
