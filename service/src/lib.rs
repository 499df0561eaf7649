//! What the daemons and the client share in I/O: configuration files, logging, channels, discovery, child
//! processes, the places of firmware images, shutdown, and one place where errors become gRPC statuses.

pub mod channel;
pub mod children;
pub mod config;
pub mod discovery;
pub mod firmware;
pub mod flags;
pub mod manual;
pub mod peer;
pub mod shutdown;
pub mod status;
pub mod supervisor;
pub mod telemetry;
pub mod tls;
mod watched;

/// Port of a coordinator.
pub const COORDINATOR_PORT: u16 = 7450;

/// Port of a worker.
pub const WORKER_PORT: u16 = 7451;
