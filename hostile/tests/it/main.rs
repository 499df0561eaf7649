//! In place of a fuzzer: the corpus through every parser, and how much memory it takes.

mod corpus;
mod memory;
mod models;
mod seeds;

#[global_allocator]
static ALLOCATOR: edgeprof_hostile::allocation::Counting = edgeprof_hostile::allocation::Counting;
