//! DHCP's datagrams on one link.
//!
//! An ordinary socket, bound to its link, reaches everybody there without an address of its own, and hears what is sent to
//! everybody: a client asks for its answers to be sent so until it has an address. What would need raw packets, and the
//! capability for them, is left out: answers to an address that the link does not have yet, and asking around whether
//! somebody else uses it.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};
use octant_net::dhcp::{CLIENT_PORT, MESSAGE_MAX, Message, SERVER_PORT};
use std::io;
use std::net::{Ipv4Addr, UdpSocket as StdSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;

/// A link's socket, and the task that reads from it; both end with it.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: Arc<UdpSocket>,
    reader: JoinHandle<()>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Socket {
    /// Messages that come are given to `heard` with the link's number; when it is full they are lost, as datagrams are.
    pub(crate) fn open(name: &str, index: u32, heard: Sender<(u32, Message)>) -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            None,
        )?;
        setsockopt(&fd, sockopt::BindToDevice, &name.into())?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        setsockopt(&fd, sockopt::Broadcast, &true)?;
        bind(fd.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, CLIENT_PORT))?;
        let socket = Arc::new(UdpSocket::from_std(StdSocket::from(fd))?);
        let reading = Arc::clone(&socket);
        let reader = tokio::spawn(async move {
            let mut buffer = [0; MESSAGE_MAX + 1];
            loop {
                match reading.recv_from(&mut buffer).await {
                    Ok((length, from)) if from.port() == SERVER_PORT => {
                        if let Some(message) = Message::of_bytes(&buffer[..length]) {
                            let _lost_when_full = heard.try_send((index, message));
                        }
                    }
                    Ok(_) => {}
                    // The link went down, or a server is not there: the client's own time goes on.
                    Err(error) => {
                        tracing::debug!("DHCP's socket: {error}");
                        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    }
                }
            }
        });
        Ok(Self { socket, reader })
    }

    /// Sends to one server, or to everybody.
    pub(crate) async fn send(&self, message: &Message, to: Option<Ipv4Addr>) -> io::Result<()> {
        let to = (to.unwrap_or(Ipv4Addr::BROADCAST), SERVER_PORT);
        self.socket.send_to(&message.to_bytes(), to).await.map(drop)
    }
}
