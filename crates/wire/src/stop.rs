//! The orderly end: one trigger, any number of places that wait for it.

use tokio::sync::watch;

/// Waits for the end to be asked for.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// Asks for the end. When it is dropped without being pulled, the end is asked for too: whoever was to say
/// so is gone.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// A trigger and what waits for it.
#[must_use]
pub fn shutdown() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Asks for the end.
    pub fn pull(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Returns once the end has been asked for.
    pub async fn requested(&self) {
        // An error means that the trigger is gone, which asks for the end too.
        let _ = self.0.clone().wait_for(|asked| *asked).await;
    }

    /// Whether the end has been asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}
