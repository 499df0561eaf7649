//! Plain types that every part speaks: ids, tokens, error classes, jobs, the run record.
