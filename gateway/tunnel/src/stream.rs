//! A stream of a tunnel, and the copying between it and a TCP connection.
//!
//! ```text
//! TCP FIN ◀──▶ QUIC FIN          TCP RST ◀──▶ RESET_STREAM, STOP_SENDING
//! ```
//!
//! quinn finishes a stream that is dropped, which would make a truncated transfer look complete. So here whatever was
//! not finished is reset, on both sides, wherever a future may be dropped.

use crate::metrics::StreamMetrics;
use crate::refusal::Refusal;
use crate::tunnel::Tunnel;
use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use std::io;
use std::pin::pin;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// Bytes are read into blocks, whose pieces are handed to quinn without copying. Blocks are small, since most streams
/// say little, and grow when a read fills one.
const SMALL_BLOCK: usize = 8 << 10;
const LARGE_BLOCK: usize = 64 << 10;
/// A block with less than this part of its room left is given up for a new one.
const LEAST_PART: usize = 8;
/// The most that is taken from a stream at once.
const CHUNK: usize = 64 << 10;

/// Both directions of a stream; reset on drop unless finished.
#[derive(Debug)]
pub struct TunnelStream {
    send: Sender,
    receive: RecvStream,
    tunnel: Tunnel,
}

/// The sending direction; reset on drop unless finished.
#[derive(Debug)]
struct Sender {
    stream: SendStream,
    finished: bool,
}

/// A TCP connection that is reset on drop unless it was ended in order.
#[derive(Debug)]
pub struct GuardedTcp {
    stream: TcpStream,
    orderly: bool,
}

/// How a copy ended that did not end in order.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The TCP side was reset, or broke.
    #[error("TCP: {0}")]
    Tcp(#[from] io::Error),
    /// The tunnel's side was reset by the other gateway, for this reason.
    #[error("reset by the peer's gateway: {0}")]
    Refused(Refusal),
    /// The tunnel itself was lost.
    #[error("tunnel lost")]
    Lost,
}

// === impl TunnelStream ===

impl TunnelStream {
    pub(crate) fn new(send: SendStream, receive: RecvStream, tunnel: Tunnel) -> Self {
        Self { send: Sender { stream: send, finished: false }, receive, tunnel }
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// If the stream was reset or the tunnel lost.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), CopyError> {
        self.send.stream.write_chunk(bytes).await.map_err(|error| write_error(&error))
    }

    /// The next bytes from the other end, in order; nothing at its end.
    ///
    /// # Errors
    /// If the stream was reset or the tunnel lost.
    pub async fn read(&mut self) -> Result<Option<Bytes>, CopyError> {
        let chunk = self.receive.read_chunk(CHUNK, true).await.map_err(|error| read_error(&error))?;
        Ok(chunk.map(|chunk| chunk.bytes))
    }

    /// Reads exactly as many bytes as `buffer` has.
    ///
    /// # Errors
    /// If the stream ends before, was reset, or the tunnel is lost.
    pub async fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), CopyError> {
        self.receive.read_exact(buffer).await.map_err(|error| match error {
            quinn::ReadExactError::FinishedEarly(_) => CopyError::Refused(Refusal::BadHeader),
            quinn::ReadExactError::ReadError(error) => read_error(&error),
        })
    }

    /// Returns once the tunnel under this stream is suspect or gone.
    pub async fn lost(&self) {
        self.tunnel.lost().await;
    }

    /// Resets both directions, telling the other gateway why.
    pub fn refuse(mut self, reason: Refusal) {
        self.send.finished = true;
        // An error means that the other end was faster.
        let _ = self.send.stream.reset(reason.code());
        let _ = self.receive.stop(reason.code());
    }

    /// Copies both ways until both have ended, and the other end has all that was sent. What ends otherwise resets the
    /// TCP connection and the stream.
    ///
    /// # Errors
    /// If either side was reset, or the tunnel lost.
    pub async fn copy(self, mut tcp: GuardedTcp, metrics: &StreamMetrics) -> Result<(), CopyError> {
        let Self { mut send, mut receive, .. } = self;
        let (reader, writer) = tcp.stream.split();
        let mut outward = pin!(outward(reader, &mut send, metrics));
        let mut inward = pin!(inward(&mut receive, writer, metrics));
        tokio::select! {
            received = &mut inward => {
                received?;
                outward.await?;
            }
            sent = &mut outward => {
                let reader = sent?;
                // A reset after the FIN is to be seen even while nothing comes back.
                tokio::select! {
                    received = &mut inward => received?,
                    error = broken(&reader) => return Err(error.into()),
                }
            }
        }
        tcp.orderly = true;
        Ok(())
    }
}

/// TCP to tunnel, until the other end has it all.
async fn outward<'a>(
    mut reader: ReadHalf<'a>,
    send: &mut Sender,
    metrics: &StreamMetrics,
) -> Result<ReadHalf<'a>, CopyError> {
    let mut size = SMALL_BLOCK;
    let mut block = BytesMut::with_capacity(size);
    let mut stopped = pin!(send.stream.stopped());
    loop {
        if block.capacity() < size / LEAST_PART {
            block = BytesMut::with_capacity(size);
        }
        let read = tokio::select! {
            biased;
            read = reader.read_buf(&mut block) => read?,
            // The other end wants no more: that is a reset, even while the application is silent.
            stopped = &mut stopped => return Err(stopped_error(&stopped)),
        };
        if read == 0 {
            break;
        }
        metrics.sent.inc_by(read as u64);
        if read > size / 2 {
            size = LARGE_BLOCK;
        }
        tokio::select! {
            biased;
            written = send.stream.write_chunk(block.split().freeze()) => written.map_err(|error| write_error(&error))?,
            // While the other end reads nothing, a reset would wait behind bytes that are of no use any more.
            error = broken(&reader) => return Err(error.into()),
        }
    }
    send.finish()?;
    let stopped = tokio::select! {
        stopped = &mut stopped => stopped,
        error = broken(&reader) => return Err(error.into()),
    };
    match stopped {
        Ok(None) => Ok(reader),
        stopped => Err(stopped_error(&stopped)),
    }
}

/// Tunnel to TCP.
async fn inward(receive: &mut RecvStream, mut writer: WriteHalf<'_>, metrics: &StreamMetrics) -> Result<(), CopyError> {
    while let Some(chunk) = receive.read_chunk(CHUNK, true).await.map_err(|error| read_error(&error))? {
        metrics.received.inc_by(chunk.bytes.len() as u64);
        tokio::select! {
            biased;
            written = writer.write_all(&chunk.bytes) => written?,
            // As above: the application may read nothing.
            reason = reset(receive) => return Err(reason),
        }
    }
    Ok(writer.shutdown().await?)
}

/// Returns once the TCP connection has failed, also where its end was read before.
async fn broken(reader: &ReadHalf<'_>) -> io::Error {
    match reader.ready(Interest::ERROR).await.and_then(|_| reader.as_ref().take_error()) {
        Ok(error) => error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()),
        Err(error) => error,
    }
}

/// Returns once the other gateway has reset the stream. Not when the tunnel is lost: all may have arrived before that,
/// and be waiting here for a slow application.
async fn reset(receive: &mut RecvStream) -> CopyError {
    match receive.received_reset().await {
        Ok(Some(code)) => CopyError::Refused(Refusal::from_code(code)),
        _ => std::future::pending().await,
    }
}

fn write_error(error: &WriteError) -> CopyError {
    match error {
        WriteError::Stopped(code) => CopyError::Refused(Refusal::from_code(*code)),
        _ => CopyError::Lost,
    }
}

fn read_error(error: &ReadError) -> CopyError {
    match error {
        ReadError::Reset(code) => CopyError::Refused(Refusal::from_code(*code)),
        _ => CopyError::Lost,
    }
}

fn stopped_error(stopped: &Result<Option<quinn::VarInt>, quinn::StoppedError>) -> CopyError {
    match stopped {
        Ok(Some(code)) => CopyError::Refused(Refusal::from_code(*code)),
        _ => CopyError::Lost,
    }
}

// === impl Sender ===

impl Sender {
    fn finish(&mut self) -> Result<(), CopyError> {
        self.finished = true;
        self.stream.finish().map_err(|_| CopyError::Lost)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.finished {
            // An error means that it was stopped or reset before.
            let _ = self.stream.reset(Refusal::Reset.code());
        }
    }
}

// === impl GuardedTcp ===

impl GuardedTcp {
    /// Guards a connection from now on.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, orderly: false }
    }

    /// The connection.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

impl Drop for GuardedTcp {
    fn drop(&mut self) {
        if !self.orderly {
            // Where it fails, the connection is gone already.
            let _ = self.stream.set_zero_linger();
        }
    }
}
