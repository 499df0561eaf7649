//! What every main is, but for its line and its counter.

/// A whole main: serves on the line `$line` and counts with `$counter`, both types with a function `open`.
/// `$receive` is the interrupt that a received byte raises. `$memory` is for a board whose model region is
/// not plain memory, and is made `$from` the linked regions.
#[macro_export]
macro_rules! firmware {
    (line: $line:ty, counter: $counter:ty, receive: $receive:expr) => {
        $crate::firmware!(
            line: $line,
            counter: $counter,
            receive: $receive,
            memory: edgeprof_firmware_core::linked::LinkedMemory,
            from: core::convert::identity
        );
    };
    (line: $line:ty, counter: $counter:ty, receive: $receive:expr, memory: $memory:ty, from: $from:expr) => {
        /// What the catalogue says about this kind.
        mod kind {
            #![allow(dead_code)]
            include!(concat!(env!("OUT_DIR"), "/kind.rs"));
        }

        #[cfg(not(feature = "counter-check"))]
        type Board = edgeprof_firmware_core::Server<
            $line,
            $counter,
            $memory,
            { kind::MAX_FRAME },
        >;

        /// Not inlined, so that no half-made server stays on the stack of what it serves.
        ///
        /// # Safety
        /// Once only, first in `main`.
        #[cfg(not(feature = "counter-check"))]
        #[inline(never)]
        unsafe fn server() -> &'static mut Board {
            use core::mem::MaybeUninit;
            use core::ptr::addr_of_mut;
            use edgeprof_firmware_core::linked::{self, LinkedMemory};

            static mut PROMPT: [u32; kind::MAX_PROMPT] = [0; kind::MAX_PROMPT];
            static mut SERVER: MaybeUninit<Board> = MaybeUninit::uninit();
            // SAFETY: by this function's contract.
            let memory = $from(unsafe { LinkedMemory::take(kind::MODEL_IN_RAM) });
            let facts = edgeprof_firmware_core::Facts {
                kind: kind::NAME,
                build_id: kind::BUILD_ID,
                version: env!("CARGO_PKG_VERSION"),
                isa: $crate::ISA,
                counter: kind::COUNTER,
                tick_hz: kind::TICK_HZ,
                static_ram: linked::static_ram(),
                flash_code: linked::flash_code(),
                stack_bytes: linked::stack_bytes(),
            };
            // SAFETY: by this function's contract nobody else refers to the statics.
            let (server, prompt) = unsafe { (&mut *addr_of_mut!(SERVER), &mut *addr_of_mut!(PROMPT)) };
            server.write(Board::new(<$line>::open(), <$counter>::open(), memory, facts, prompt))
        }

        #[cfg(not(feature = "counter-check"))]
        #[cortex_m_rt::entry]
        fn main() -> ! {
            // SAFETY: the entry point runs once.
            unsafe { server() }.serve()
        }

        #[cfg(feature = "counter-check")]
        #[cortex_m_rt::entry]
        fn main() -> ! {
            use $crate::check::{PER_TURN, sled, turns};
            // SAFETY: the entry point runs once.
            let _ = unsafe { edgeprof_firmware_core::linked::LinkedMemory::take(kind::MODEL_IN_RAM) };
            let (line, counter) = (<$line>::open(), <$counter>::open());
            edgeprof_firmware_core::check::run::<_, _, { kind::MAX_FRAME }>(
                line, counter, sled, turns, PER_TURN,
            )
        }

        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
            $crate::stop_on_panic(&mut <$line>::open(), $receive, info)
        }

        #[cortex_m_rt::exception]
        unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
            $crate::stop_on_fault(&mut <$line>::open(), $receive, frame)
        }
    };
}
