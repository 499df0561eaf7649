//! The gRPC contract: generated messages, clients and servers.
