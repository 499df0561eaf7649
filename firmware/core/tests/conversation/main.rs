//! The board's side of the conversation, on a line made of two queues.

mod bench;
mod images;
mod runs;
