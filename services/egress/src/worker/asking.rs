//! The gate, as a worker asks it about one connection.

use crate::packets::{ABOUT_MAX, Packets};
use crate::said::{Answer, Ask, End, Said, What};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

type Told = (Said, Option<OwnedFd>);

#[derive(Debug)]
pub(crate) struct Asking {
    packets: Packets,
    next: AtomicU64,
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Told>>>,
}

impl Asking {
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let packets = Packets::new(socket, ABOUT_MAX)?;
        Ok(Self { packets, next: AtomicU64::new(1), waiting: Mutex::default() })
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Told>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, and gives the answer with the number of what was asked.
    pub(crate) async fn ask(&self, what: What) -> io::Result<(u64, Told)> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting().insert(id, sender);
        let asked = self.packets.send(&Ask { id, what }, &[]).await;
        if let Err(error) = asked {
            self.waiting().remove(&id);
            return Err(error);
        }
        let told = answer.await.map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        Ok((id, told))
    }

    /// Says what has no answer.
    pub(crate) async fn tell(&self, what: What) {
        // Without a gate the connection ends too.
        let _ = self.packets.send(&Ask { id: 0, what }, &[]).await;
    }

    /// Hands answers to who asked, until the gate is gone.
    pub(crate) async fn listen(&self) -> io::Result<()> {
        while let Some((Answer { id, said }, fds)) = self.packets.receive().await? {
            let asker = self.waiting().remove(&id);
            let told = asker.map(|asker| asker.send((said, fds.into_iter().next())));
            // Who asked may have lost its program meanwhile; a secret that came for it is not used.
            if let Some(Err((Said::Given { .. }, _))) = told {
                let end = End::Failed("the program took its request back".to_owned());
                self.tell(What::Became { of: id, end }).await;
            }
        }
        Ok(())
    }
}
