//! Registers by address.

/// Reads a device register.
///
/// # Safety
/// `address` is a 32-bit register of this board, and reading it does what the caller wants.
#[inline(always)]
#[must_use]
pub unsafe fn read(address: usize) -> u32 {
    // SAFETY: by this function's contract.
    unsafe { core::ptr::with_exposed_provenance::<u32>(address).read_volatile() }
}

/// Writes a device register.
///
/// # Safety
/// `address` is a 32-bit register of this board, and writing it does what the caller wants.
#[inline(always)]
pub unsafe fn write(address: usize, value: u32) {
    // SAFETY: by this function's contract.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(address).write_volatile(value) }
}
