//! The board catalogue as data: cores, memory, counters, emulator recipes, linker scripts.
