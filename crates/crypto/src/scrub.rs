//! Overwriting the stack that secrets passed over.
//!
//! The libraries wipe their keys, but not every copy: hash states that took in a key, a block that was moved, what a
//! compiler spilled. All of that lies on the stack below the call that made it, where it stays until something else
//! needs the room. `tests/memory.rs` hunts for it, and fails when more stack is used than is overwritten.

/// How much is overwritten: with optimisation three times what the deepest call here uses, and without it twice.
const DEPTH: usize = if cfg!(debug_assertions) { 128 * 1024 } else { 16 * 1024 };

/// Does `work`, then writes zeros where the stack was that it used. What it gives must hold no secret but by a handle.
pub(crate) fn scrubbed<T>(work: impl FnOnce() -> T) -> T {
    let value = apart(work);
    zeroize::zeroize_stack::<DEPTH>();
    value
}

/// In a frame of its own: what it leaves is below the caller's frame, where the zeros go.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}
