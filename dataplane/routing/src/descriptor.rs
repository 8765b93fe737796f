//! What a request is to a rate limit: descriptors, each a list of keys and values (Envoy's `RateLimit` and its actions).

use crate::Asked;
use crate::condition::{FieldMatch, QueryMatch, joined, parameter};
use crate::decode::unpack;
use api::envoy::envoy::config::route::v3::{RateLimit, rate_limit::Action, rate_limit::action::ActionSpecifier};
use api::envoy::envoy::extensions::rate_limit_descriptors::expr::v3 as expr;
use expr::descriptor::ExprSpecifier;
use http::HeaderName;
use ipnet::IpNet;
use std::net::IpAddr;

/// Keys and their values, in the order of the actions.
pub(crate) type Descriptor = Vec<(Box<str>, Box<str>)>;

/// A request as rate limits see it.
#[derive(Debug, Clone, Copy)]
pub struct Limited<'a> {
    /// Its head.
    pub asked: Asked<'a>,
    /// Where it comes from.
    pub remote: IpAddr,
    /// Who its certificate says that the caller is.
    pub principal: Option<&'a str>,
    /// The name of its route.
    pub route: &'a str,
}

/// How one descriptor is made: by all of its steps, or not at all.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) stage: u32,
    steps: Vec<Step>,
}

/// What adds one key and value.
#[derive(Debug, Clone)]
struct Step {
    key: Box<str>,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    Fixed(Box<str>),
    /// A field's value; whether the descriptor does without if there is none.
    Field(HeaderName, bool),
    /// That of the request line under Envoy's name for it.
    Line(Line),
    Query(Box<str>, bool),
    Fields(Vec<FieldMatch>, bool, Box<str>),
    QueryFields(Vec<QueryMatch>, bool, Box<str>),
    Remote,
    Masked(u8, u8),
    Principal,
    Route,
}

#[derive(Debug, Clone, Copy)]
enum Line {
    Method,
    Authority,
    Path,
    Scheme,
}

/// The expression for who asks, that everybody who proves nothing shares one value; in Envoy's CEL.
pub const PRINCIPAL: &str =
    "has(connection.uri_san_peer_certificate) ? connection.uri_san_peer_certificate : 'unknown'";
/// The expression for the name of the route.
pub const ROUTE: &str = "xds.route_name";
const UNKNOWN: &str = "unknown";
const ACCEPTED: &str = "rate_limits: generic_key, request_headers, query_parameters, header_value_match, \
                        query_parameter_value_match, remote_address and masked_remote_address are accepted";

// === impl Recipe ===

impl Recipe {
    pub(crate) fn parse(limit: &RateLimit) -> Result<Self, String> {
        if limit.limit.is_some() || limit.hits_addend.is_some() || limit.apply_on_stream_done {
            return Err("rate_limits: limit, hits_addend and apply_on_stream_done are not accepted".into());
        }
        Ok(Self {
            stage: limit.stage.as_ref().map_or(0, |stage| stage.value),
            steps: limit.actions.iter().map(Step::parse).collect::<Result<_, _>>()?,
        })
    }

    /// The descriptor of `request`; none if a step has no value.
    pub(crate) fn descriptor(&self, request: &Limited<'_>) -> Option<Descriptor> {
        let mut descriptor = Descriptor::new();
        for step in &self.steps {
            match step.value.of(request) {
                Found::Value(value) => descriptor.push((step.key.clone(), value)),
                Found::Without => {}
                Found::Nothing => return None,
            }
        }
        Some(descriptor).filter(|descriptor| !descriptor.is_empty())
    }
}

/// What came of a step.
enum Found {
    Value(Box<str>),
    /// The descriptor does without.
    Without,
    /// There is no descriptor.
    Nothing,
}

// === impl Step ===

impl Step {
    fn parse(action: &Action) -> Result<Self, String> {
        let step = |key: &str, otherwise: &str, value: Value| {
            let key = if key.is_empty() { otherwise } else { key };
            Ok(Self { key: key.into(), value })
        };
        match action.action_specifier.as_ref().ok_or(ACCEPTED)? {
            ActionSpecifier::GenericKey(of) => {
                step(&of.descriptor_key, "generic_key", Value::Fixed(of.descriptor_value.as_str().into()))
            }
            ActionSpecifier::RequestHeaders(of) => {
                step(&of.descriptor_key, "", Value::field(&of.header_name, of.skip_if_absent)?)
            }
            ActionSpecifier::QueryParameters(of) => {
                let value = Value::Query(of.query_parameter_name.as_str().into(), of.skip_if_absent);
                step(&of.descriptor_key, "", value)
            }
            ActionSpecifier::HeaderValueMatch(of) => {
                let fields = of.headers.iter().map(FieldMatch::parse).collect::<Result<_, _>>()?;
                let expected = of.expect_match.as_ref().is_none_or(|expected| expected.value);
                let value = Value::Fields(fields, expected, of.descriptor_value.as_str().into());
                step(&of.descriptor_key, "header_match", value)
            }
            ActionSpecifier::QueryParameterValueMatch(of) => {
                let fields = of.query_parameters.iter().map(QueryMatch::parse).collect::<Result<_, _>>()?;
                let expected = of.expect_match.as_ref().is_none_or(|expected| expected.value);
                let value = Value::QueryFields(fields, expected, of.descriptor_value.as_str().into());
                step(&of.descriptor_key, "query_match", value)
            }
            ActionSpecifier::RemoteAddress(_) => step("", "remote_address", Value::Remote),
            ActionSpecifier::MaskedRemoteAddress(of) => {
                let length = |length: Option<u32>, most: u8| {
                    length.map_or(Ok(most), |length| {
                        u8::try_from(length).ok().filter(|length| *length <= most).ok_or(ACCEPTED)
                    })
                };
                let v4 = length(of.v4_prefix_mask_len.as_ref().map(|length| length.value), 32)?;
                let v6 = length(of.v6_prefix_mask_len.as_ref().map(|length| length.value), 128)?;
                step("", "masked_remote_address", Value::Masked(v4, v6))
            }
            ActionSpecifier::Extension(of) => {
                let any = of.typed_config.as_ref().ok_or(ACCEPTED)?;
                let of = unpack::<expr::Descriptor>(any).ok_or(ACCEPTED)?.map_err(|error| error.to_string())?;
                let value = match of.expr_specifier {
                    Some(ExprSpecifier::Text(text)) if text == PRINCIPAL => Value::Principal,
                    Some(ExprSpecifier::Text(text)) if text == ROUTE => Value::Route,
                    _ => return Err(format!("rate_limits: an extension with {PRINCIPAL:?} or {ROUTE:?} is accepted")),
                };
                step(&of.descriptor_key, "", value)
            }
            _ => Err(ACCEPTED.into()),
        }
    }
}

// === impl Value ===

impl Value {
    fn field(name: &str, skips: bool) -> Result<Self, String> {
        Ok(match name.to_ascii_lowercase().as_str() {
            ":method" => Self::Line(Line::Method),
            ":authority" | "host" => Self::Line(Line::Authority),
            ":path" => Self::Line(Line::Path),
            ":scheme" => Self::Line(Line::Scheme),
            name => Self::Field(name.parse().map_err(|_| format!("rate_limits: {name:?} is no field's name"))?, skips),
        })
    }

    fn of(&self, request: &Limited<'_>) -> Found {
        let asked = &request.asked;
        let absent = |skips: bool| if skips { Found::Without } else { Found::Nothing };
        match self {
            Self::Fixed(value) => Found::Value(value.clone()),
            Self::Line(Line::Method) => Found::Value(asked.method.as_str().into()),
            Self::Line(Line::Authority) => Found::Value(asked.authority.into()),
            Self::Line(Line::Path) => Found::Value(asked.target.into()),
            Self::Line(Line::Scheme) => Found::Value(asked.scheme.into()),
            Self::Field(name, skips) => match joined(asked.headers, name) {
                Some(value) => Found::Value(value.into()),
                None => absent(*skips),
            },
            Self::Query(name, skips) => match parameter(asked.query(), name) {
                Some(value) => Found::Value(value.into()),
                None => absent(*skips),
            },
            Self::Fields(fields, expected, value) => {
                Found::of(fields.iter().all(|field| field.matches(asked)) == *expected, value)
            }
            Self::QueryFields(fields, expected, value) => {
                Found::of(fields.iter().all(|field| field.matches(asked.query())) == *expected, value)
            }
            Self::Remote => Found::Value(request.remote.to_canonical().to_string().into()),
            Self::Masked(v4, v6) => {
                let remote = request.remote.to_canonical();
                let length = if remote.is_ipv4() { *v4 } else { *v6 };
                // The lengths were checked.
                IpNet::new(remote, length).map_or(Found::Nothing, |net| Found::Value(net.trunc().to_string().into()))
            }
            Self::Principal => Found::Value(request.principal.unwrap_or(UNKNOWN).into()),
            Self::Route if request.route.is_empty() => Found::Nothing,
            Self::Route => Found::Value(request.route.into()),
        }
    }
}

// === impl Found ===

impl Found {
    fn of(holds: bool, value: &str) -> Self {
        if holds { Self::Value(value.into()) } else { Self::Nothing }
    }
}
