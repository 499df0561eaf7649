//! What daemons and client share in I/O: config, telemetry, channels, shutdown.
