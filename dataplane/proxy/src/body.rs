//! Bodies on their way: counted, and kept if they may have to be sent again.

use crate::event::Cause;
use crate::exchange::Exchange;
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use tokio::sync::oneshot;
use tokio::time::Sleep;

/// A request's body on its way to the upstream.
pub(crate) enum RequestBody {
    /// There is none.
    Empty,
    /// It passes through; `passed` counts its bytes where its length is not known before, and `end` is its end.
    Streaming { body: Incoming, passed: Option<Arc<AtomicU64>>, end: Option<Cause> },
    /// It is kept, so that the request can be sent again.
    Kept(Kept),
    /// A copy of one that was kept.
    Copied(VecDeque<Part>),
}

/// A view on a body that is read once and can be sent several times. Only the latest view reads on.
pub(crate) struct Kept {
    original: Arc<Mutex<Original>>,
    turn: usize,
    at: usize,
    /// The body's length, where it was said.
    length: Option<u64>,
}

/// What a body can be sent again from.
pub(crate) struct Repeat(Arc<Mutex<Original>>, Option<u64>);

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It did where it came from.
    #[error("the body: {0}")]
    Broken(#[from] hyper::Error),
    /// The request took longer than its route lets it.
    #[error("the request took too long")]
    Late,
    /// The request is being sent to somebody else.
    #[error("the request is sent again")]
    Superseded,
}

struct Original {
    body: Incoming,
    /// Counts the views.
    turn: usize,
    /// The view that waits for more.
    waiting: Option<Waker>,
    parts: Vec<Part>,
    bytes: usize,
    limit: usize,
    /// More came than is kept.
    overflown: bool,
    ended: bool,
    end: Option<Cause>,
    copies: Vec<oneshot::Sender<VecDeque<Part>>>,
}

/// A piece of a body.
#[derive(Clone)]
pub(crate) enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// A response's body on its way to the caller.
pub(crate) enum ResponseBody {
    /// One that we answer with ourselves.
    Own(Option<Bytes>),
    /// The upstream's. Its end ends the exchange; it must come before the deadline.
    Upstream { body: Incoming, exchange: Box<Exchange>, deadline: Option<Pin<Box<Sleep>>> },
}

// === impl RequestBody ===

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streaming { body, passed, end } => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                if let (Some(Err(_)), Some(end)) = (&frame, &end) {
                    end.fail();
                }
                if frame.is_none() || body.is_end_stream() {
                    end.take();
                }
                if let (Some(passed), Some(Ok(frame))) = (passed, &frame) {
                    passed.fetch_add(data_length(frame), Ordering::Relaxed);
                }
                Poll::Ready(frame.map(|frame| Ok(frame?)))
            }
            Self::Kept(kept) => kept.poll_frame(cx),
            Self::Copied(parts) => Poll::Ready(parts.pop_front().map(|part| Ok(part.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming { body, .. } => body.is_end_stream(),
            Self::Kept(_) => false,
            Self::Copied(parts) => parts.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming { body, .. } => body.size_hint(),
            Self::Kept(kept) => kept.size_hint(),
            Self::Copied(parts) => SizeHint::with_exact(parts.iter().map(Part::length).sum()),
        }
    }
}

// === impl Kept ===

impl Kept {
    /// Keeps up to `limit` bytes of `body`.
    pub(crate) fn new(body: Incoming, limit: usize, end: Option<Cause>) -> Self {
        let length = body.size_hint().exact();
        let original = Original {
            body,
            turn: 0,
            waiting: None,
            parts: Vec::new(),
            bytes: 0,
            limit,
            overflown: false,
            ended: false,
            end,
            copies: Vec::new(),
        };
        Self { original: Arc::new(Mutex::new(original)), turn: 0, at: 0, length }
    }

    /// All of it, once its end was read; nothing if it is too long, or never ends.
    pub(crate) fn copy(&self) -> oneshot::Receiver<VecDeque<Part>> {
        let (send, receive) = oneshot::channel();
        self.original.lock().copies.push(send);
        receive
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// What it can be sent again from.
    pub(crate) fn repeat(&self) -> Repeat {
        Repeat(self.original.clone(), self.length)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut original = self.original.lock();
        if original.turn != self.turn {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        if let Some(part) = original.parts.get(self.at) {
            self.at += 1;
            return Poll::Ready(Some(Ok(part.clone().into())));
        }
        if original.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut original.body).poll_frame(cx) else {
            original.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        };
        match &frame {
            None => original.end(),
            Some(Ok(frame)) => {
                original.keep(frame);
                self.at = original.parts.len();
                if original.body.is_end_stream() {
                    original.end();
                }
            }
            Some(Err(_)) => {
                original.overflown = true;
                if let Some(end) = &original.end {
                    end.fail();
                }
            }
        }
        Poll::Ready(frame.map(|frame| Ok(frame?)))
    }
}

// === impl Repeat ===

impl Repeat {
    /// The body from its beginning; none if not all of it was kept. The view before breaks off, and gives up its stream:
    /// two that read would take each other's turns.
    pub(crate) fn again(&self) -> Option<Kept> {
        let mut original = self.0.lock();
        if original.overflown {
            return None;
        }
        original.turn += 1;
        if let Some(before) = original.waiting.take() {
            before.wake();
        }
        Some(Kept { original: self.0.clone(), turn: original.turn, at: 0, length: self.1 })
    }
}

// === impl Original ===

impl Original {
    fn end(&mut self) {
        self.ended = true;
        self.end.take();
        for copy in self.copies.drain(..) {
            // Whoever wanted it may have gone.
            let _ = copy.send(self.parts.iter().cloned().collect());
        }
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        if self.overflown {
            return;
        }
        let part = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Part::Data(data.clone()),
            (None, Some(trailers)) => Part::Trailers(trailers.clone()),
            (None, None) => return,
        };
        self.bytes += usize::try_from(data_length(frame)).unwrap_or(usize::MAX);
        if self.bytes > self.limit {
            self.overflown = true;
            self.parts.clear();
            self.copies.clear();
        } else {
            self.parts.push(part);
        }
    }
}

// === impl Part ===

impl Part {
    fn length(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Trailers(_) => 0,
        }
    }
}

impl From<Part> for Frame<Bytes> {
    fn from(part: Part) -> Self {
        match part {
            Part::Data(data) => Frame::data(data),
            Part::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

// === impl ResponseBody ===

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream { body, exchange, deadline } => {
                if deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
                    exchange.late();
                    return Poll::Ready(Some(Err(BodyError::Late)));
                }
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                match &frame {
                    Some(Ok(frame)) => {
                        exchange.passed(data_length(frame), frame.trailers_ref());
                        if body.is_end_stream() {
                            exchange.complete();
                        }
                    }
                    Some(Err(_)) => exchange.broken(),
                    None => exchange.complete(),
                }
                Poll::Ready(frame.map(|frame| Ok(frame?)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Upstream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Upstream { body, .. } => body.size_hint(),
        }
    }
}

fn data_length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.remaining() as u64)
}
