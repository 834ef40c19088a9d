//! What runs inside to be many.

use std::process::{Command, ExitCode};

/// Starts itself over and over, and every copy does the same.
pub(crate) fn bomb() -> ! {
    println!("started");
    loop {
        // Refused when the limit is reached; then again, so that it is always full.
        let _ = Command::new("/octant").args(["inside", "bomb"]).spawn();
    }
}

/// Leaves a hundred grandchildren behind, then looks whether any of them is a zombie.
pub(crate) fn orphans() -> ExitCode {
    for _ in 0..100 {
        let status = Command::new("/octant").args(["inside", "parent"]).status();
        assert!(status.is_ok_and(|s| s.success()));
    }
    for _ in 0..500 {
        let zombie = std::fs::read_dir("/proc").unwrap().any(|entry| {
            let status = std::fs::read_to_string(entry.unwrap().path().join("status")).unwrap_or_default();
            status.contains("State:\tZ")
        });
        if !zombie {
            println!("no zombies");
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    ExitCode::FAILURE
}
