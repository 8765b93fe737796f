//! What to do with a packet: parse, look up, decide. Pure.

use crate::zone::{Found, Zone};
use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// What to do with a packet.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Nothing: it is no query, or has nobody to answer to.
    Drop,
    /// Send this.
    Reply(Vec<u8>),
    /// Ask an upstream.
    Forward(Question),
}

/// How a packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// One well-formed query, and how its answer must look.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    request: Metadata,
    query: Query,
    /// Whether the client speaks EDNS.
    edns: bool,
    /// The greatest answer, in bytes.
    limit: usize,
}

/// What stands in an answer.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) code: ResponseCode,
    pub(crate) records: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) authoritative: bool,
}

/// The header's length (RFC 1035, 4.1.1).
const HEADER: usize = 12;
/// What we take and send over UDP, to stay clear of fragments (DNS flag day 2020).
const UDP_PAYLOAD: u16 = 1232;
/// The smallest address record: a pointer to the name, and 14 bytes.
const SMALLEST_RECORD: usize = 16;

/// Decides about one packet. Answers from the zone may be kept for `ttl` seconds.
pub(crate) fn decide(packet: &[u8], zone: &Zone, transport: Transport, ttl: u32) -> Decision {
    let question = match read(packet, transport) {
        Ok(question) => question,
        Err(decision) => return decision,
    };
    let name = question.query.name().to_ascii().to_ascii_lowercase();
    match zone.find(name.strip_suffix('.').unwrap_or(&name)) {
        Some(found) => question.answer_from(&found, ttl).map_or(Decision::Forward(question), Decision::Reply),
        None => Decision::Forward(question),
    }
}

/// Reads a query, or decides what to do with what is none.
fn read(packet: &[u8], transport: Transport) -> Result<Question, Decision> {
    let is_response = packet.get(2).is_none_or(|flags| flags & 0x80 != 0);
    if is_response {
        return Err(Decision::Drop);
    }
    let id = u16::from_be_bytes([packet[0], packet[1]]);
    let op_code = OpCode::from_u8(packet[2] >> 3 & 0x0f);
    let refuse = |code| Decision::Reply(encode(&Message::error_msg(id, op_code, code)));
    if op_code != OpCode::Query {
        return Err(refuse(ResponseCode::NotImp));
    }
    // The count is checked before the parser sees it: it would make room for as many queries as it says.
    if packet.len() < HEADER || packet[4..6] != [0, 1] {
        return Err(refuse(ResponseCode::FormErr));
    }
    let message = Message::from_vec(packet).map_err(|_| refuse(ResponseCode::FormErr))?;
    if message.metadata.message_type != MessageType::Query {
        return Err(Decision::Drop);
    }
    let limit = match transport {
        Transport::Udp => usize::from(message.max_payload().clamp(512, UDP_PAYLOAD)),
        Transport::Tcp => usize::from(u16::MAX),
    };
    let query = message.queries.into_iter().next().ok_or_else(|| refuse(ResponseCode::FormErr))?;
    let question = Question { request: message.metadata, query, edns: message.edns.is_some(), limit };
    let code = if message.edns.is_some_and(|edns| edns.version() > 0) {
        ResponseCode::BADVERS
    } else if !question.is_permitted() {
        ResponseCode::Refused
    } else {
        return Ok(question);
    };
    Err(Decision::Reply(question.answer(Answer { code, ..Answer::default() })))
}

// === impl Question ===

impl Question {
    pub(crate) fn name(&self) -> &Name {
        self.query.name()
    }

    pub(crate) fn record_type(&self) -> RecordType {
        self.query.query_type()
    }

    fn is_permitted(&self) -> bool {
        let meta = matches!(self.record_type(), RecordType::AXFR | RecordType::IXFR | RecordType::ANY);
        self.query.query_class() == DNSClass::IN && !meta
    }

    /// The zone's answer. It speaks for addresses, and for the types that would lead clients past them; others, such as
    /// MX, are none of its business.
    fn answer_from(&self, found: &Found<'_>, ttl: u32) -> Option<Vec<u8>> {
        let addresses = found.addresses;
        let data: Vec<RData> = match self.record_type() {
            RecordType::A => self.spread(&addresses.v4).map(|v4| RData::A(A(*v4))).collect(),
            RecordType::AAAA => self.spread(&addresses.v6).map(|v6| RData::AAAA(AAAA(*v6))).collect(),
            RecordType::HTTPS | RecordType::SVCB => Vec::new(),
            _ => return None,
        };
        let mut records = Vec::with_capacity(data.len() + 1);
        let mut owner = self.name().clone();
        if let Some(canonical) = found.canonical.and_then(|name| Name::from_ascii(format!("{name}.")).ok()) {
            records.push(Record::from_rdata(owner, ttl, RData::CNAME(CNAME(canonical.clone()))));
            owner = canonical;
        }
        records.extend(data.into_iter().map(|data| Record::from_rdata(owner.clone(), ttl, data)));
        Some(self.answer(Answer { records, authoritative: true, ..Answer::default() }))
    }

    /// As many addresses as may fit and one more, beginning anywhere, so that clients that take the first spread.
    fn spread<'a, T>(&self, all: &'a [T]) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let start = usize::from(self.request.id) % all.len().max(1);
        all.iter().cycle().skip(start).take(all.len().min(self.limit / SMALLEST_RECORD + 1))
    }

    /// SERVFAIL.
    pub(crate) fn failure(&self) -> Vec<u8> {
        self.answer(Answer { code: ResponseCode::ServFail, ..Answer::default() })
    }

    /// Encodes an answer; what does not fit is left out and said so (TC).
    pub(crate) fn answer(&self, answer: Answer) -> Vec<u8> {
        let mut message = Message::response(self.request.id, OpCode::Query);
        message.metadata = Metadata::response_from_request(&self.request);
        message.metadata.recursion_available = true;
        message.metadata.authoritative = answer.authoritative;
        message.metadata.response_code = answer.code;
        message.queries = vec![self.query.clone()];
        message.answers = answer.records;
        message.authorities = answer.authorities;
        if self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_PAYLOAD);
            message.edns = Some(edns);
        }
        self.fit(message)
    }

    fn fit(&self, mut message: Message) -> Vec<u8> {
        loop {
            let bytes = encode(&message);
            let parts = message.answers.len() + message.authorities.len();
            if bytes.len() <= self.limit && bytes.len() >= HEADER || parts == 0 {
                return bytes;
            }
            message.metadata.truncation = true;
            message.authorities.clear();
            let room = message.answers.len() * self.limit / bytes.len().max(1);
            message.answers.truncate(room.min(message.answers.len().saturating_sub(1)));
        }
    }
}

/// Encodes; what cannot be encoded becomes an empty packet, which [`Question::fit`] makes smaller.
fn encode(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap_or_default()
}
