//! What a route does to the fields of a message: removed, then set, then added, as Envoy does it.

use crate::condition::joined;
use api::envoy::envoy::config::core::v3::HeaderValueOption;
use api::envoy::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write;
use std::net::SocketAddr;

/// Operations on the fields of one message. Most routes have none, and there are many: nothing takes no room then.
#[derive(Debug, Clone, Default)]
pub struct Mutation(Option<Box<Operations>>);

#[derive(Debug, Clone, Default)]
struct Operations {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, Value)>,
    add: Vec<(HeaderName, Value)>,
    complete: Vec<(HeaderName, Value)>,
}

/// What values may speak of.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The request's method, authority and target.
    pub line: (&'a str, &'a str, &'a str),
    /// Where the request comes from.
    pub remote: SocketAddr,
    /// Where it came to.
    pub local: SocketAddr,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// The route's name.
    pub route: &'a str,
}

#[derive(Debug, Clone)]
enum Value {
    Fixed(HeaderValue),
    Made(Vec<Part>),
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Field(HeaderName),
    Method,
    Authority,
    Target,
    Remote,
    RemoteIp,
    Local,
    LocalIp,
    LocalPort,
    Protocol,
    Route,
}

// === impl Mutation ===

impl Mutation {
    pub(crate) fn parse(add: &[HeaderValueOption], remove: &[String]) -> Result<Self, String> {
        if add.is_empty() && remove.is_empty() {
            return Ok(Self::default());
        }
        let name = |text: &str| text.parse().map_err(|_| format!("headers: {text:?} is no field's name"));
        let mut made = Operations {
            remove: remove.iter().map(|text| name(text)).collect::<Result<_, _>>()?,
            ..Operations::default()
        };
        for option in add {
            let header = option.header.as_ref().ok_or("headers_to_add: header is expected")?;
            let operation = (name(&header.key)?, Value::parse(&header.value)?);
            match option.append_action() {
                HeaderAppendAction::AppendIfExistsOrAdd => made.add.push(operation),
                HeaderAppendAction::OverwriteIfExistsOrAdd => made.set.push(operation),
                HeaderAppendAction::AddIfAbsent => made.complete.push(operation),
                HeaderAppendAction::OverwriteIfExists => {
                    return Err("headers_to_add: OVERWRITE_IF_EXISTS is not accepted".into());
                }
            }
        }
        Ok(Self(Some(Box::new(made))))
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether a value is made from the request's fields.
    pub fn reads_request(&self) -> bool {
        let Some(operations) = &self.0 else { return false };
        let mut all = operations.set.iter().chain(&operations.add).chain(&operations.complete);
        all.any(|(_, value)| matches!(value, Value::Made(parts) if parts.iter().any(Part::is_field)))
    }

    /// Applies it to `headers`, which are the request's own unless those are given. A value that comes out empty is
    /// left out.
    pub fn apply(&self, headers: &mut HeaderMap, request: Option<&HeaderMap>, context: &Context<'_>) {
        let Some(operations) = &self.0 else { return };
        for name in &operations.remove {
            headers.remove(name);
        }
        for (name, value) in &operations.set {
            if let Some(value) = value.of(request.unwrap_or(headers), context) {
                headers.insert(name, value);
            }
        }
        for (name, value) in &operations.add {
            if let Some(value) = value.of(request.unwrap_or(headers), context) {
                headers.append(name, value);
            }
        }
        for (name, value) in &operations.complete {
            if !headers.contains_key(name)
                && let Some(value) = value.of(request.unwrap_or(headers), context)
            {
                headers.insert(name, value);
            }
        }
    }
}

// === impl Value ===

impl Value {
    /// A text in which `%NAME%` stands for what is known when a request comes, and `%%` for a percent sign.
    fn parse(text: &str) -> Result<Self, String> {
        let refuse = || format!("headers: value {text:?} is not accepted");
        let mut parts = Vec::new();
        let mut pieces = text.split('%');
        push(&mut parts, pieces.next().unwrap_or_default());
        while let Some(inside) = pieces.next() {
            let after = pieces.next().ok_or_else(refuse)?;
            match inside {
                "" => push(&mut parts, "%"),
                command => parts.push(Part::parse(command).ok_or_else(refuse)?),
            }
            push(&mut parts, after);
        }
        match &parts[..] {
            [] => Ok(Self::Fixed(HeaderValue::from_static(""))),
            [Part::Text(text)] => Ok(Self::Fixed(text.parse().map_err(|_| refuse())?)),
            _ => Ok(Self::Made(parts)),
        }
    }

    fn of(&self, request: &HeaderMap, context: &Context<'_>) -> Option<HeaderValue> {
        match self {
            Self::Fixed(value) => Some(value).filter(|value| !value.is_empty()).cloned(),
            Self::Made(parts) => {
                let mut text = String::new();
                for part in parts {
                    part.write(&mut text, request, context);
                }
                HeaderValue::try_from(text).ok().filter(|value| !value.is_empty())
            }
        }
    }
}

fn push(parts: &mut Vec<Part>, text: &str) {
    if let Some(Part::Text(last)) = parts.last_mut() {
        last.push_str(text);
    } else if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

// === impl Part ===

impl Part {
    fn parse(command: &str) -> Option<Self> {
        Some(match command {
            "DOWNSTREAM_REMOTE_ADDRESS" => Self::Remote,
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Self::RemoteIp,
            "DOWNSTREAM_LOCAL_ADDRESS" => Self::Local,
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Self::LocalIp,
            "DOWNSTREAM_LOCAL_PORT" => Self::LocalPort,
            "PROTOCOL" => Self::Protocol,
            "ROUTE_NAME" => Self::Route,
            field => match field.strip_prefix("REQ(")?.strip_suffix(')')?.to_ascii_lowercase().as_str() {
                ":method" => Self::Method,
                ":authority" => Self::Authority,
                ":path" => Self::Target,
                name => Self::Field(name.parse().ok()?),
            },
        })
    }

    fn is_field(&self) -> bool {
        matches!(self, Self::Field(_))
    }

    fn write(&self, text: &mut String, request: &HeaderMap, context: &Context<'_>) {
        let (method, authority, target) = context.line;
        // Writing into a text cannot fail.
        let _ = match self {
            Self::Text(part) => write!(text, "{part}"),
            Self::Field(name) => write!(text, "{}", joined(request, name).unwrap_or_default()),
            Self::Method => write!(text, "{method}"),
            Self::Authority => write!(text, "{authority}"),
            Self::Target => write!(text, "{target}"),
            Self::Remote => write!(text, "{}", context.remote),
            Self::RemoteIp => write!(text, "{}", context.remote.ip()),
            Self::Local => write!(text, "{}", context.local),
            Self::LocalIp => write!(text, "{}", context.local.ip()),
            Self::LocalPort => write!(text, "{}", context.local.port()),
            Self::Protocol => write!(text, "{}", context.protocol),
            Self::Route => write!(text, "{}", context.route),
        };
    }
}
