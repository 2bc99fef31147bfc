//! The network between an operator and its proxy: connections can be cut, and a partition stops all data.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// State of the network. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Link(Arc<LinkState>);

#[derive(Debug, Default)]
struct LinkState {
    partitioned: AtomicBool,
    /// Parent of the tokens of all open connections.
    connections: Mutex<CancellationToken>,
}

impl Link {
    /// Stops all data in both directions. Connections stay open, and new ones are accepted.
    pub(super) fn partition(&self) {
        self.0.partitioned.store(true, Ordering::SeqCst);
    }

    /// Ends a partition. Its connections are cut, so that nothing arrives that was sent during the partition.
    pub(super) fn end_partition(&self) {
        self.cut();
        self.0.partitioned.store(false, Ordering::SeqCst);
    }

    /// Cuts all open connections.
    pub(super) fn cut(&self) {
        let mut connections = self.0.connections.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *connections).cancel();
    }

    fn is_partitioned(&self) -> bool {
        self.0.partitioned.load(Ordering::SeqCst)
    }

    fn connection(&self) -> CancellationToken {
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner).child_token()
    }
}

/// Accepts connections of a link.
#[derive(Debug)]
pub(super) struct LinkListener {
    pub(super) listener: TcpListener,
    pub(super) link: Link,
}

impl Listener for LinkListener {
    type Io = LinkStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (LinkStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => return (LinkStream::new(stream, self.link.clone()), address),
                // For example too many open files; axum also retries.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection of a link.
pub(super) struct LinkStream {
    stream: TcpStream,
    link: Link,
    token: CancellationToken,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl LinkStream {
    fn new(stream: TcpStream, link: Link) -> Self {
        let token = link.connection();
        let cut = Box::pin(token.clone().cancelled_owned());
        Self { stream, link, token, cut }
    }

    /// Ready if data can pass. The end of a partition cuts the connection, which wakes the task.
    fn poll_link(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if self.link.is_partitioned() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl AsyncRead for LinkStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_link(context))?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for LinkStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_link(context))?;
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_link(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_link(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The connection of a request.
#[derive(Debug, Clone)]
pub(super) struct Connection(CancellationToken);

impl Connection {
    /// Closes the connection without a response.
    pub(super) fn cut(&self) {
        self.0.cancel();
    }
}

impl Connected<IncomingStream<'_, LinkListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, LinkListener>) -> Self {
        Self(stream.io().token.clone())
    }
}
