//! Messages and framing between host and board.
