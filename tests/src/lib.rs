//! Whole-system tests: real processes, real sockets, real emulated boards.
