//! The worker daemon: owns the boards of one lab host.
