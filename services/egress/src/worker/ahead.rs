//! Connections that are read in large pieces, below TLS and above it: TLS itself reads 4 KiB at a time and gives a record of
//! 16 KiB at a time, and every call of the kernel and every turn of a task costs more than what is done in it.

use crate::flow::Chunk;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection of which more was read than was asked for.
#[derive(Debug)]
pub(super) struct Ahead<S> {
    read: Chunk,
    /// What of it nobody has had yet.
    left: Range<usize>,
    stream: S,
}

impl<S> Ahead<S> {
    /// `first` was read already.
    pub(super) fn new(first: Vec<u8>, stream: S) -> Self {
        Self { left: 0..first.len(), read: Chunk(first), stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left.is_empty() {
            let mut chunk = Chunk::get();
            let mut piece = ReadBuf::new(&mut chunk.0);
            std::task::ready!(Pin::new(&mut self.stream).poll_read(context, &mut piece))?;
            self.left = 0..piece.filled().len();
            self.read = chunk;
        }
        let goes = self.left.start..self.left.end.min(self.left.start + into.remaining());
        into.put_slice(&self.read.0[goes.clone()]);
        self.left.start = goes.end;
        if self.left.is_empty() {
            // A buffer belongs to a connection only while there is something in it.
            self.read = Chunk::default();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A connection whose reader gets all that is there, as far as there is room for it.
#[derive(Debug)]
pub(super) struct Filled<S> {
    stream: S,
    /// What came after the bytes that were read last.
    error: Option<io::Error>,
}

impl<S> Filled<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, error: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Filled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error));
        }
        let before = into.filled().len();
        while into.remaining() > 0 {
            let had = into.filled().len();
            match Pin::new(&mut self.stream).poll_read(context, into) {
                // At the end there is nothing more, however often it is asked.
                Poll::Ready(Ok(())) if into.filled().len() == had => break,
                Poll::Ready(Ok(())) => {}
                Poll::Pending if had == before => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(Err(error)) if had == before => return Poll::Ready(Err(error)),
                Poll::Ready(Err(error)) => {
                    self.error = Some(error);
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Filled<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use tokio::io::AsyncReadExt;

    /// Gives each of these at one read, and then waits.
    struct Pieces(VecDeque<io::Result<Vec<u8>>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.0.pop_front() {
                Some(Ok(mut piece)) => {
                    let rest = piece.split_off(piece.len().min(into.remaining()));
                    into.put_slice(&piece);
                    if !rest.is_empty() {
                        self.0.push_front(Ok(rest));
                    }
                    Poll::Ready(Ok(()))
                }
                Some(Err(error)) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            }
        }
    }

    fn pieces(of: impl IntoIterator<Item = io::Result<&'static str>>) -> Pieces {
        Pieces(of.into_iter().map(|piece| piece.map(|text| text.as_bytes().to_vec())).collect())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_was_read_ahead_comes_first_and_whole() {
        let mut ahead = Ahead::new(b"abc".to_vec(), pieces([Ok("defgh"), Ok("i"), Ok("")]));
        let (mut all, mut two) = (Vec::new(), [0; 2]);
        loop {
            match ahead.read(&mut two).await.unwrap() {
                0 => break,
                count => all.extend_from_slice(&two[..count]),
            }
        }
        assert_eq!(all, b"abcdefghi");
        assert!(ahead.read.0.is_empty(), "who waits holds no memory");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn all_that_is_there_comes_at_once_and_then_the_error() {
        let failed = Err(io::ErrorKind::ConnectionReset.into());
        let mut filled = Filled::new(pieces([Ok("abc"), Ok("d"), Ok("efg"), failed]));
        let mut five = [0; 5];
        assert_eq!(filled.read(&mut five).await.unwrap(), 5);
        assert_eq!(filled.read(&mut five).await.unwrap(), 2);
        assert_eq!(filled.read(&mut five).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let mut filled = Filled::new(pieces([Ok("abc"), Ok("")]));
        assert_eq!(filled.read(&mut five).await.unwrap(), 3);
    }
}
