//! Which tokens must come: one, one of several, several, or none if none is brought.

use super::provider::Provider;
use super::{Held, TokenRefusal};
use crate::Asked;
use api::envoy::envoy::extensions::filters::http::jwt_authn::v3 as proto;
use http::HeaderName;
use proto::jwt_requirement::RequiresType;

/// Which tokens must come. Providers are named by their places.
#[derive(Debug, Clone)]
pub(super) enum Requirement {
    One(usize),
    Any(Vec<Requirement>),
    All(Vec<Requirement>),
    /// None; but what is brought for one of these must hold.
    NoneOf(Vec<usize>),
}

/// Requirements within each other; deeper ones are refused.
const DEEPEST: usize = 8;

// === impl Requirement ===

impl Requirement {
    /// `requirement`, of the providers `names`.
    pub(super) fn parse(requirement: &proto::JwtRequirement, names: &[&str]) -> Result<Self, String> {
        Self::within(requirement, names, (0..names.len()).collect(), 0)
    }

    fn within(
        requirement: &proto::JwtRequirement,
        names: &[&str],
        meant: Vec<usize>,
        depth: usize,
    ) -> Result<Self, String> {
        if depth > DEEPEST {
            return Err(format!("requirements at most {DEEPEST} within each other are accepted"));
        }
        let place = |name: &str| {
            names.iter().position(|known| *known == name).ok_or_else(|| format!("provider {name:?} is not there"))
        };
        let all = |requirements: &[proto::JwtRequirement], meant: &[usize]| {
            let each = requirements.iter().map(|one| Self::within(one, names, meant.to_vec(), depth + 1));
            each.collect::<Result<Vec<_>, _>>()
        };
        match &requirement.requires_type {
            Some(RequiresType::ProviderName(name)) => Ok(Self::One(place(name)?)),
            Some(RequiresType::RequiresAny(list)) => {
                // What may be missing is what stands beside it.
                let beside = list.requirements.iter().filter_map(|one| match &one.requires_type {
                    Some(RequiresType::ProviderName(name)) => Some(place(name)),
                    _ => None,
                });
                let beside: Vec<usize> = beside.collect::<Result<_, _>>()?;
                Ok(Self::Any(all(&list.requirements, if beside.is_empty() { &meant } else { &beside })?))
            }
            Some(RequiresType::RequiresAll(list)) => Ok(Self::All(all(&list.requirements, &meant)?)),
            Some(RequiresType::AllowMissing(_)) => Ok(Self::NoneOf(meant)),
            other => Err(format!("the requirement {other:?} is not accepted")),
        }
    }

    /// The tokens of `asked` that hold at `now`.
    pub(super) fn check<'a>(
        &self,
        providers: &'a [Provider],
        asked: &Asked<'_>,
        now: u64,
    ) -> Result<Vec<Held<'a>>, TokenRefusal> {
        match self {
            Self::One(place) => one(&providers[*place], asked, now).map(|held| vec![held]),
            Self::All(all) => {
                let each = all.iter().map(|requirement| requirement.check(providers, asked, now));
                Ok(each.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
            }
            Self::Any(all) => {
                let mut why = TokenRefusal::Missing;
                for requirement in all {
                    match requirement.check(providers, asked, now) {
                        Ok(held) => return Ok(held),
                        // What is wrong with a token says more than that there is none.
                        Err(TokenRefusal::Missing) => {}
                        Err(other) => why = other,
                    }
                }
                Err(why)
            }
            Self::NoneOf(meant) => none(providers, meant, asked, now),
        }
    }
}

fn one<'a>(provider: &'a Provider, asked: &Asked<'_>, now: u64) -> Result<Held<'a>, TokenRefusal> {
    let mut why = TokenRefusal::Missing;
    for (token, field) in provider.places.iter().flat_map(|place| place.tokens(asked)) {
        match provider.held(&token, field, now) {
            Ok(held) => return Ok(held),
            Err(other) => why = other,
        }
    }
    Err(why)
}

/// Whatever stands where tokens for `meant` stand must hold for one of those that have them there.
fn none<'a>(
    providers: &'a [Provider],
    meant: &[usize],
    asked: &Asked<'_>,
    now: u64,
) -> Result<Vec<Held<'a>>, TokenRefusal> {
    let meant = || meant.iter().map(|place| &providers[*place]);
    let mut all = Vec::new();
    for place in meant().flat_map(|provider| &provider.places) {
        for (token, field) in place.tokens(asked) {
            all.push(of_any(meant().filter(|provider| provider.places.contains(place)), &token, field.as_ref(), now)?);
        }
    }
    Ok(all)
}

/// What is wrong with a token for its own issuer says more than that it is another's.
fn of_any<'a>(
    providers: impl Iterator<Item = &'a Provider>,
    token: &str,
    field: Option<&HeaderName>,
    now: u64,
) -> Result<Held<'a>, TokenRefusal> {
    let mut why = TokenRefusal::Issuer;
    for provider in providers {
        match provider.held(token, field.cloned(), now) {
            Ok(held) => return Ok(held),
            Err(TokenRefusal::Issuer) => {}
            Err(other) => why = other,
        }
    }
    Err(why)
}
