//! The cluster's brain: a pure state machine, events in, effects out.
