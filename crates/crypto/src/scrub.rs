//! Overwriting the stack that secrets passed over.
//!
//! The libraries wipe their keys, but not every copy: hash states that took in a key, a block that was moved, what a
//! compiler spilled. All of that lies on the stack below the call that made it, where it stays until something else
//! needs the room.

use zeroize::Zeroize;

/// How much is overwritten: what the deepest call here uses in a build without optimisation, and as much again.
const DEPTH: usize = 16 * 1024;

/// Does `work`, then writes zeros where the stack was that it used. What it gives must hold no secret but by a handle.
pub(crate) fn scrubbed<T>(work: impl FnOnce() -> T) -> T {
    let value = apart(work);
    overwrite();
    value
}

/// In a frame of its own, so that what it leaves is below the caller's and where `overwrite` writes.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn overwrite() {
    let mut frame = [0_u64; DEPTH / size_of::<u64>()];
    frame.zeroize();
}
