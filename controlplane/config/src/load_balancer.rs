//! How an endpoint is chosen.

use crate::{LocalitySetting, ZoneAware, exclusive};
use resource::{Field, ResourceError, Source};
use std::time::Duration;

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadBalancer {
    /// By what.
    pub choice: Choice,
    /// What localities have to do with it; as the mesh does it if absent.
    pub locality: Option<LocalitySetting>,
    /// How zones of the caller's region share requests, if they do.
    pub zones: Option<ZoneAware>,
    /// How endpoints begin.
    pub warmup: Option<Warmup>,
}

/// By what an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Choice {
    /// Of two drawn by chance the one with fewer requests.
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// By chance.
    Random,
    /// The one that the caller was going to.
    Passthrough,
    /// The same for requests that are alike in this.
    Hash {
        /// What makes requests alike.
        key: HashKey,
        /// How the hash becomes an endpoint.
        table: HashTable,
    },
}

/// What makes requests alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// A header field.
    Header(String),
    /// A cookie.
    Cookie {
        /// Its name.
        name: String,
        /// Its path, where it is made.
        path: String,
        /// How long it lasts, if it is to be made where the caller has none; 0 is as long as the session.
        ttl: Option<Duration>,
        /// What it is made with, each a name and a value, which may be empty.
        attributes: Vec<(String, String)>,
    },
    /// The caller's address.
    SourceIp,
    /// A parameter of the query.
    Query(String),
}

/// How a hash becomes an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashTable {
    /// A ring with at least so many places.
    Ring(u64),
    /// Maglev's table of so many places, a prime number.
    Maglev(u64),
}

/// How an endpoint that is new gets its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warmup {
    /// How long until it has its whole share.
    pub time: Duration,
    /// The share that it begins with, in thousandths of a percent.
    pub least: u32,
    /// The exponent of the curve between, in thousandths: 1000 is a straight line.
    pub aggression: u32,
}

const FIELDS: &[&str] = &[
    "simple",
    "consistentHash",
    "backendUtilization",
    "localityLbSetting",
    "zoneAwareLbSetting",
    "warmup",
    "warmupDurationSecs",
];
const HASH: &[&str] =
    &["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName", "ringHash", "maglev", "minimumRingSize"];
const UTILIZATION: &[&str] = &[
    "weightExpirationPeriod",
    "weightStabilizationPeriod",
    "weightUpdatePeriod",
    "errorUtilizationPenaltyPercent",
    "metricNamesForComputingUtilization",
];
const KEYS: &[&str] = &["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"];
const LEAST: Duration = Duration::from_millis(1);
/// Istio's and Envoy's sizes, and Envoy's limits.
const RING_SIZE: u32 = 1024;
const LARGEST_RING: u32 = 8 * 1024 * 1024;
const MAGLEV_SIZE: u32 = 65_537;
const LARGEST_MAGLEV: u32 = 5_000_011;

// === impl LoadBalancer ===

impl LoadBalancer {
    pub(crate) fn read(at: &Field<'_>, source: &mut Source) -> Result<Option<Self>, ResourceError> {
        if !at.is_present() {
            return Ok(None);
        }
        let fields = at.fields(FIELDS)?;
        exclusive(&fields, &["simple", "consistentHash", "backendUtilization"])?;
        check_utilization(&fields.get("backendUtilization"))?;
        let utilization = fields.get("backendUtilization");
        if utilization.is_present() {
            source.warn(
                &utilization,
                "not honoured: endpoints are chosen by LEAST_REQUEST, which follows their load too",
            );
        }
        let hash = fields.get("consistentHash");
        let choice = if hash.is_present() { hashed(&hash)? } else { simple(&fields.get("simple"))? };
        let warmup = match warmup(&fields.get("warmup"))? {
            Some(warmup) => Some(warmup),
            None => fields.get("warmupDurationSecs").duration(LEAST)?.map(Warmup::lasting),
        };
        if warmup.is_some() && !matches!(choice, Choice::LeastRequest | Choice::RoundRobin) {
            let older = fields.get("warmupDurationSecs");
            let at = Some(fields.get("warmup")).filter(Field::is_present).unwrap_or(older);
            return Err(at.refuse("a warmup with LEAST_REQUEST or ROUND_ROBIN only"));
        }
        let zones = ZoneAware::read(&fields.get("zoneAwareLbSetting"))?;
        let locality = fields.get("localityLbSetting");
        if zones.is_some() && locality.is_present() {
            source.warn(&locality, "without effect beside zoneAwareLbSetting");
        }
        Ok(Some(Self { choice, locality: LocalitySetting::read(&locality)?, zones, warmup }))
    }
}

// === impl Warmup ===

impl Warmup {
    fn lasting(time: Duration) -> Self {
        Self { time, least: 10_000, aggression: 1000 }
    }
}

fn check_utilization(at: &Field<'_>) -> Result<(), ResourceError> {
    let fields = at.fields(UTILIZATION)?;
    for name in &UTILIZATION[..3] {
        fields.get(name).duration(Duration::ZERO)?;
    }
    fields.get(UTILIZATION[3]).integer(0..=u32::MAX, "a percentage, 0 or more")?;
    fields.get(UTILIZATION[4]).text_items()?;
    Ok(())
}

fn simple(at: &Field<'_>) -> Result<Choice, ResourceError> {
    match at.text()? {
        None | Some("UNSPECIFIED" | "LEAST_REQUEST" | "LEAST_CONN") => Ok(Choice::LeastRequest),
        Some("ROUND_ROBIN") => Ok(Choice::RoundRobin),
        Some("RANDOM") => Ok(Choice::Random),
        Some("PASSTHROUGH") => Ok(Choice::Passthrough),
        Some(_) => Err(at.refuse("UNSPECIFIED, LEAST_REQUEST, ROUND_ROBIN, RANDOM or PASSTHROUGH")),
    }
}

fn hashed(at: &Field<'_>) -> Result<Choice, ResourceError> {
    let fields = at.fields(HASH)?;
    exclusive(&fields, KEYS)?;
    exclusive(&fields, &["ringHash", "maglev"])?;
    let text = |name: &str| -> Result<Option<String>, ResourceError> {
        let field = fields.get(name);
        match field.text()? {
            Some("") => Err(field.refuse("a name that is not empty")),
            text => Ok(text.map(str::to_owned)),
        }
    };
    let cookie = fields.get("httpCookie");
    let key = if let Some(name) = text("httpHeaderName")? {
        HashKey::Header(name.to_ascii_lowercase())
    } else if let Some(name) = text("httpQueryParameterName")? {
        HashKey::Query(name)
    } else if cookie.is_present() {
        cookie_key(&cookie)?
    } else if fields.get("useSourceIp").boolean()?.unwrap_or_default() {
        HashKey::SourceIp
    } else {
        return Err(at.refuse(format!("one of {}", KEYS.join(", "))));
    };
    Ok(Choice::Hash { key, table: table(&fields)? })
}

fn table(fields: &resource::Fields<'_>) -> Result<HashTable, ResourceError> {
    let maglev = fields.get("maglev");
    if maglev.is_present() {
        let size = maglev.fields(&["tableSize"])?.get("tableSize");
        let what = "a prime number, 2 to 5000011";
        let value = size.integer(0..=LARGEST_MAGLEV, what)?.filter(|size| *size != 0).unwrap_or(MAGLEV_SIZE);
        return if is_prime(value) { Ok(HashTable::Maglev(value.into())) } else { Err(size.refuse(what)) };
    }
    let size = |at: Field<'_>| at.integer(0..=LARGEST_RING, "a size, 0 to 8388608");
    let ring = size(fields.get("ringHash").fields(&["minimumRingSize"])?.get("minimumRingSize"))?;
    let older = size(fields.get("minimumRingSize"))?;
    Ok(HashTable::Ring(ring.or(older).filter(|size| *size != 0).unwrap_or(RING_SIZE).into()))
}

fn is_prime(number: u32) -> bool {
    let roots = (2u32..).take_while(|root| root * root <= number);
    number > 1 && roots.into_iter().all(|root| !number.is_multiple_of(root))
}

fn cookie_key(at: &Field<'_>) -> Result<HashKey, ResourceError> {
    let fields = at.fields(&["name", "path", "ttl", "attributes"])?;
    let name = fields.get("name");
    let text = name.required_text()?;
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte);
    if text.is_empty() || !text.bytes().all(legal) {
        return Err(name.refuse("the name of a cookie"));
    }
    let mut attributes = Vec::new();
    for item in fields.get("attributes").items()? {
        let inside = item.fields(&["name", "value"])?;
        let value = inside.get("value").text()?.unwrap_or_default().to_owned();
        attributes.push((inside.get("name").required_text()?.to_owned(), value));
    }
    Ok(HashKey::Cookie {
        name: text.to_owned(),
        path: fields.get("path").text()?.unwrap_or_default().to_owned(),
        ttl: fields.get("ttl").duration(Duration::ZERO)?,
        attributes,
    })
}

fn warmup(at: &Field<'_>) -> Result<Option<Warmup>, ResourceError> {
    if !at.is_present() {
        return Ok(None);
    }
    let fields = at.fields(&["duration", "minimumPercent", "aggression"])?;
    let time = fields.get("duration");
    let least = fields.get("minimumPercent").number(0.0..=100.0, "a percentage, 0 to 100")?.unwrap_or(10.0);
    let aggression = fields.get("aggression").number(1.0..=1000.0, "a number, 1 or greater")?.unwrap_or(1.0);
    #[expect(clippy::cast_sign_loss, reason = "both were checked to be positive and small")]
    Ok(Some(Warmup {
        time: time.duration(LEAST)?.ok_or_else(|| time.refuse("a time such as 30s; this field is required"))?,
        least: (least * 1000.0).round() as u32,
        aggression: (aggression * 1000.0).round() as u32,
    }))
}
