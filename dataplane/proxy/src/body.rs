//! Bodies on their way: counted, and kept if they may have to be sent again.

use crate::exchange::Exchange;
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};

/// A request's body on its way to the upstream.
pub(crate) enum RequestBody {
    /// There is none.
    Empty,
    /// It passes through; `passed` counts its bytes where its length is not known before.
    Streaming { body: Incoming, passed: Option<Arc<AtomicU64>> },
    /// It is kept, so that the request can be sent again.
    Kept(Kept),
}

/// A view on a body that is read once and can be sent several times. Only the latest view reads on.
pub(crate) struct Kept {
    original: Arc<Mutex<Original>>,
    turn: usize,
    at: usize,
}

/// What a body can be sent again from.
pub(crate) struct Repeat(Arc<Mutex<Original>>);

/// Why a request's body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The caller's did.
    #[error("the caller's body: {0}")]
    Caller(#[from] hyper::Error),
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
}

#[derive(Clone)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// A response's body on its way to the caller.
pub(crate) enum ResponseBody {
    /// One that we answer with ourselves.
    Own(Option<Bytes>),
    /// The upstream's. Its end ends the exchange.
    Upstream { body: Incoming, exchange: Box<Exchange> },
}

// === impl RequestBody ===

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streaming { body, passed } => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                if let (Some(passed), Some(Ok(frame))) = (passed, &frame) {
                    passed.fetch_add(data_length(frame), Ordering::Relaxed);
                }
                Poll::Ready(frame.map(|frame| Ok(frame?)))
            }
            Self::Kept(kept) => kept.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming { body, .. } => body.is_end_stream(),
            Self::Kept(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming { body, .. } => body.size_hint(),
            Self::Kept(_) => SizeHint::default(),
        }
    }
}

// === impl Kept ===

impl Kept {
    /// Keeps up to `limit` bytes of `body`.
    pub(crate) fn new(body: Incoming, limit: usize) -> Self {
        let original = Original {
            body,
            turn: 0,
            waiting: None,
            parts: Vec::new(),
            bytes: 0,
            limit,
            overflown: false,
            ended: false,
        };
        Self { original: Arc::new(Mutex::new(original)), turn: 0, at: 0 }
    }

    /// What it can be sent again from.
    pub(crate) fn repeat(&self) -> Repeat {
        Repeat(self.original.clone())
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
            None => original.ended = true,
            Some(Ok(frame)) => {
                original.keep(frame);
                self.at = original.parts.len();
            }
            Some(Err(_)) => original.overflown = true,
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
        Some(Kept { original: self.0.clone(), turn: original.turn, at: 0 })
    }
}

// === impl Original ===

impl Original {
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
        } else {
            self.parts.push(part);
        }
    }
}

// === impl Part ===

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
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream { body, exchange } => {
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
                Poll::Ready(frame)
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
