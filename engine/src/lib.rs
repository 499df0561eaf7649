//! LLM inference for small boards: no heap, no I/O, the same bits everywhere.
