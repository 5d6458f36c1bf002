//! The stack against the real servers.

mod nats;
