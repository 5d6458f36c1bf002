//! Runs the real program against real servers.

mod feed;
mod measure;
