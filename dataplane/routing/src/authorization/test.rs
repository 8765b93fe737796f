//! A condition of a policy, with all that it is made of.

use super::Subject;
use super::field::FieldTest;
use super::metadata::MetadataTest;
use crate::listener::net;
use crate::text_match::TextMatch;
use api::envoy::envoy::config::core::v3::CidrRange;
use api::envoy::envoy::config::rbac::v3 as proto;
use api::envoy::envoy::r#type::matcher::v3::{PathMatcher, path_matcher};
use ipnet::IpNet;
use proto::permission::Rule;
use proto::principal::Identifier;
use proto::{MetadataSource, SourcedMetadata};
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// A condition.
#[derive(Debug, Clone)]
pub(super) enum Test {
    Always,
    All(Vec<Test>),
    Some(Vec<Test>),
    Not(Box<Test>),
    Field(FieldTest),
    Path(TextMatch),
    DestinationIp(IpNet),
    DestinationPorts(RangeInclusive<u16>),
    ServerName(TextMatch),
    /// Who asks proved to be somebody, and somebody like this.
    Principal(Option<TextMatch>),
    DirectIp(IpNet),
    RemoteIp(IpNet),
    Metadata(MetadataTest),
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    Yes,
    No,
    /// It could not be evaluated.
    Unknown,
}

/// Conditions within conditions; deeper ones are refused.
const DEEPEST: usize = 32;

// === impl Truth ===

impl Truth {
    /// Whether both hold.
    pub(super) fn and(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::No => Self::No,
            Self::Yes => other(),
            Self::Unknown if other() == Self::No => Self::No,
            Self::Unknown => Self::Unknown,
        }
    }

    /// Whether it does not hold.
    pub(super) fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl From<Option<bool>> for Truth {
    fn from(known: Option<bool>) -> Self {
        known.map_or(Self::Unknown, Self::from)
    }
}

// === impl Test ===

impl Test {
    /// A permission; where it is not certain, one that `is_broad` rather holds.
    pub(super) fn of_permission(permission: &proto::Permission, is_broad: bool, depth: usize) -> Result<Self, String> {
        let nested = |all: &[proto::Permission], is_broad: bool| {
            nested(all, depth, |one| Self::of_permission(one, is_broad, depth + 1))
        };
        Ok(match &permission.rule {
            Some(Rule::AndRules(set)) => Self::All(nested(&set.rules, is_broad)?),
            Some(Rule::OrRules(set)) => Self::Some(nested(&set.rules, is_broad)?),
            Some(Rule::NotRule(one)) => {
                Self::Not(Box::new(Self::All(nested(std::slice::from_ref(&**one), !is_broad)?)))
            }
            Some(Rule::Any(true)) => Self::Always,
            Some(Rule::Header(matcher)) => Self::Field(FieldTest::parse(matcher, is_broad)?),
            Some(Rule::UrlPath(matcher)) => Self::path(matcher)?,
            Some(Rule::DestinationIp(range)) => Self::DestinationIp(block(range)?),
            Some(Rule::DestinationPort(port)) => Self::ports(*port, port.saturating_add(1))?,
            Some(Rule::DestinationPortRange(range)) => {
                let number = |end: i32| u32::try_from(end).map_err(|_| format!("destination_port_range: {end}"));
                Self::ports(number(range.start)?, number(range.end)?)?
            }
            Some(Rule::RequestedServerName(matcher)) => Self::ServerName(TextMatch::parse(matcher)?),
            Some(Rule::SourcedMetadata(sourced)) => Self::metadata(sourced)?,
            other => return Err(format!("permission {other:?} is not accepted")),
        })
    }

    /// A principal; where it is not certain, one that `is_broad` rather holds.
    pub(super) fn of_principal(principal: &proto::Principal, is_broad: bool, depth: usize) -> Result<Self, String> {
        let nested = |all: &[proto::Principal], is_broad: bool| {
            nested(all, depth, |one| Self::of_principal(one, is_broad, depth + 1))
        };
        Ok(match &principal.identifier {
            Some(Identifier::AndIds(set)) => Self::All(nested(&set.ids, is_broad)?),
            Some(Identifier::OrIds(set)) => Self::Some(nested(&set.ids, is_broad)?),
            Some(Identifier::NotId(one)) => {
                Self::Not(Box::new(Self::All(nested(std::slice::from_ref(&**one), !is_broad)?)))
            }
            Some(Identifier::Any(true)) => Self::Always,
            Some(Identifier::Authenticated(one)) => {
                Self::Principal(one.principal_name.as_ref().map(TextMatch::parse).transpose()?)
            }
            Some(Identifier::DirectRemoteIp(range)) => Self::DirectIp(block(range)?),
            Some(Identifier::RemoteIp(range)) => Self::RemoteIp(block(range)?),
            Some(Identifier::Header(matcher)) => Self::Field(FieldTest::parse(matcher, is_broad)?),
            Some(Identifier::UrlPath(matcher)) => Self::path(matcher)?,
            Some(Identifier::SourcedMetadata(sourced)) => Self::metadata(sourced)?,
            other => return Err(format!("principal {other:?} is not accepted")),
        })
    }

    fn path(matcher: &PathMatcher) -> Result<Self, String> {
        match &matcher.rule {
            Some(path_matcher::Rule::Path(matcher)) => Ok(Self::Path(TextMatch::parse(matcher)?)),
            None => Err("url_path: path is expected".into()),
        }
    }

    /// The ports from `first` to the one before `end`.
    fn ports(first: u32, end: u32) -> Result<Self, String> {
        let port = |number: u32| u16::try_from(number).map_err(|_| format!("destination_port: {number}"));
        if end <= first {
            return Err(format!("destination_port_range: {first} to {end}"));
        }
        Ok(Self::DestinationPorts(port(first)?..=port(end - 1)?))
    }

    fn metadata(sourced: &SourcedMetadata) -> Result<Self, String> {
        let matcher = sourced.metadata_matcher.as_ref().ok_or("sourced_metadata: metadata_matcher is expected")?;
        if sourced.metadata_source() != MetadataSource::Dynamic {
            return Err("sourced_metadata: the source DYNAMIC is accepted".into());
        }
        Ok(Self::Metadata(MetadataTest::parse(matcher)?))
    }

    /// Whether it holds of `subject`.
    pub(super) fn truth(&self, subject: &Subject<'_>) -> Truth {
        let within = |net: &IpNet, address: IpAddr| Truth::from(net.contains(&address.to_canonical()));
        match self {
            Self::Always => Truth::Yes,
            Self::All(tests) => tests.iter().fold(Truth::Yes, |all, test| all.and(|| test.truth(subject))),
            // Neither of them all is untrue.
            Self::Some(tests) => {
                tests.iter().fold(Truth::Yes, |none, test| none.and(|| test.truth(subject).not())).not()
            }
            Self::Not(test) => test.truth(subject).not(),
            Self::Field(test) => subject.asked.as_ref().map_or(Truth::No, |asked| test.truth(asked)),
            Self::Path(wanted) => subject.asked.as_ref().is_some_and(|asked| wanted.matches(asked.path())).into(),
            Self::DestinationIp(net) => within(net, subject.destination.ip()),
            Self::DestinationPorts(ports) => ports.contains(&subject.destination.port()).into(),
            Self::ServerName(wanted) => wanted.matches(subject.server_name).into(),
            Self::Principal(wanted) => {
                let is_like = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted.matches(name));
                subject.principal.is_some_and(is_like).into()
            }
            Self::DirectIp(net) => within(net, subject.direct),
            Self::RemoteIp(net) => within(net, subject.remote),
            Self::Metadata(test) => test.holds(subject.metadata).into(),
        }
    }
}

fn nested<T>(all: &[T], depth: usize, parse: impl Fn(&T) -> Result<Test, String>) -> Result<Vec<Test>, String> {
    if depth >= DEEPEST || all.is_empty() {
        return Err(format!("sets of one or more, at most {DEEPEST} within each other, are accepted"));
    }
    all.iter().map(parse).collect()
}

fn block(range: &CidrRange) -> Result<IpNet, String> {
    net(range).map(|net| net.trunc())
}
