//! The edgeprof command and a small client library.
