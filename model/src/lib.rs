//! Model files in, board images out.
