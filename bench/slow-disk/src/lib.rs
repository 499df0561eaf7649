//! A disk whose syncs take longer than this machine's: preloaded (`LD_PRELOAD`, see ld.so(8)) into a program, it makes
//! every `fdatasync` wait before it begins. Figures that are taken so are emulated, and say it.

use std::{env, ffi::c_int, sync::LazyLock, thread, time::Duration};

use nix::libc;

/// By how many microseconds each sync takes longer.
const LONGER: &str = "EDGEPROF_SYNC_LONGER_US";

static PAUSE: LazyLock<Duration> = LazyLock::new(|| {
    let micros = env::var(LONGER).ok().and_then(|micros| micros.parse().ok());
    Duration::from_micros(micros.unwrap_or_default())
});

/// As fdatasync(2), later. The pause comes first, so that `errno` is the sync's own.
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(file: c_int) -> c_int {
    thread::sleep(*PAUSE);
    // SAFETY: the call takes a number, which the kernel checks, and touches no memory of this process but `errno`. The
    // symbol of libc is this function.
    let done = unsafe { libc::syscall(libc::SYS_fdatasync, file) };
    c_int::try_from(done).unwrap_or(-1)
}
