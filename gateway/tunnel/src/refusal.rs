//! Why a gateway refuses a stream, as the application error code of QUIC's RESET_STREAM and STOP_SENDING.

use quinn::VarInt;
use std::fmt;

/// A reason, with its code on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Refusal {
    /// Not a refusal: the connection behind the stream was reset.
    Reset = 0,
    /// The header is cut short, too long, late, or not one.
    BadHeader = 1,
    /// The header's version is not known here.
    BadVersion = 2,
    /// No such service is exported to the asking cluster.
    NotExported = 3,
    /// It was exported, and has been withdrawn.
    Gone = 4,
    /// The stream has been here before, or has passed too many gateways.
    Loop = 5,
    /// A limit is reached.
    Overloaded = 6,
    /// The asking gateway is not who it should be.
    Identity = 7,
    /// No endpoint of the service answers.
    Unreachable = 8,
    /// The gateway is leaving.
    Draining = 9,
}

// === impl Refusal ===

impl Refusal {
    /// The code on the wire.
    pub fn code(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    /// The reason of a code; what is not known is a reset.
    pub fn from_code(code: VarInt) -> Self {
        const ALL: [Refusal; 9] = [
            Refusal::BadHeader,
            Refusal::BadVersion,
            Refusal::NotExported,
            Refusal::Gone,
            Refusal::Loop,
            Refusal::Overloaded,
            Refusal::Identity,
            Refusal::Unreachable,
            Refusal::Draining,
        ];
        ALL.into_iter().find(|refusal| refusal.code() == code).unwrap_or(Self::Reset)
    }

    /// Whether another gateway of the same or another cluster may do better.
    pub fn is_worth_another_try(self) -> bool {
        !matches!(self, Self::Loop | Self::Reset)
    }

    /// As in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reset => "RESET",
            Self::BadHeader => "BAD_HEADER",
            Self::BadVersion => "BAD_VERSION",
            Self::NotExported => "NOT_EXPORTED",
            Self::Gone => "GONE",
            Self::Loop => "LOOP",
            Self::Overloaded => "OVERLOADED",
            Self::Identity => "IDENTITY",
            Self::Unreachable => "UNREACHABLE",
            Self::Draining => "DRAINING",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
