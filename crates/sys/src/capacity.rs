//! How large this machine is.

use std::io;

/// Its memory, in bytes.
///
/// # Errors
/// The kernel's.
pub fn memory_bytes() -> io::Result<u64> {
    Ok(nix::sys::sysinfo::sysinfo()?.ram_total())
}

/// The processors that this process may use.
///
/// # Errors
/// The kernel's.
pub fn cpus() -> io::Result<u32> {
    let cpus = std::thread::available_parallelism()?;
    Ok(u32::try_from(cpus.get()).unwrap_or(u32::MAX))
}
