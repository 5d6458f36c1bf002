#![doc = include_str!("../README.md")]

mod auth;
mod blocks;
mod body;
mod config;
mod encoding;
mod engine;
mod exception;
mod execute;
mod ffi;
mod form;
mod format;
mod library;
mod native;
mod request;
mod response;
mod server;
mod service;
mod session;
mod spool;
mod statement;
mod summary;
mod surroundings;

pub use auth::{READER_SETTINGS, User, Users};
pub use body::Limits;
pub use config::{Arguments, Config, ConfigError};
pub use engine::{EngineConfig, EngineError};
pub use exception::Exception;
pub use ffi::{LoadError, leave};
pub use server::{Ended, Server};
