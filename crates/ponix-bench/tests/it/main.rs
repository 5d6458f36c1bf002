//! Runs the real program against real servers.

mod measure;
