//! Threads hand each other what they have allocated, small and in great number: glibc's allocator takes a third more
//! processor time a task, and keeps what is free.

use std::{
    env,
    ffi::{c_int, c_long},
};

use libmimalloc_sys::{mi_option_get, mi_option_set};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`, by its place in `mi_option_e` of `mimalloc.h`.
const PURGE_DELAY: c_int = 15;

/// Milliseconds of it that mimalloc 3 has by default.
const LONG: c_long = 1000;

/// Free pages go back to the system after so many milliseconds, not after a second: a burst of tasks takes a tenth less,
/// at no cost that shows.
const SHORT: c_long = 10;

/// How whoever starts the process says otherwise.
const SAID: &str = "MIMALLOC_PURGE_DELAY";

/// Begins to give back what is free.
pub(crate) fn give_back_soon() {
    if env::var_os(SAID).is_some() {
        return;
    }
    // SAFETY: both take the number of an option and no pointer, and mimalloc ignores numbers that it does not know.
    unsafe {
        if mi_option_get(PURGE_DELAY) == LONG {
            mi_option_set(PURGE_DELAY, SHORT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another version of the library may number its options otherwise.
    #[test]
    fn the_option_is_where_it_was() {
        // SAFETY: as above.
        let delay = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), LONG);
        give_back_soon();
        assert_eq!(delay(), SHORT);
    }
}
