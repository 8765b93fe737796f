//! How a workload's health is found out: Kubernetes' probes, as a WorkloadGroup and a proxy's own settings have them.

use crate::{Field, Fields, ResourceError, Source};
use std::time::Duration;

/// How a workload's health is found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is done.
    pub method: ProbeMethod,
    /// How long to wait before the first time.
    pub initial_delay: Duration,
    /// How long each time may take. 1 s if not said.
    pub timeout: Duration,
    /// How long from one to the next. 10 s if not said.
    pub period: Duration,
    /// How many successes in a row make it healthy. 1 if not said.
    pub successes: u32,
    /// How many failures in a row make it unhealthy. 3 if not said.
    pub failures: u32,
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeMethod {
    /// An HTTP GET, answered with a status of 200 to 399.
    HttpGet {
        /// The host to connect to; the workload's own address if absent.
        host: Option<String>,
        /// The port.
        port: u16,
        /// The path.
        path: String,
        /// Whether TLS is spoken; any certificate will do.
        is_https: bool,
        /// More header fields.
        headers: Vec<(String, String)>,
    },
    /// A connection that can be made.
    TcpSocket {
        /// The host to connect to; the workload's own address if absent.
        host: Option<String>,
        /// The port.
        port: u16,
    },
    /// A command that exits with 0: it and its arguments, at least one.
    Exec(Vec<String>),
    /// `grpc.health.v1.Health/Check`, answered SERVING.
    Grpc {
        /// The port.
        port: u16,
        /// The service asked for; all of the server if empty.
        service: String,
    },
}

const TIMES: [&str; 5] =
    ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
const METHODS: [(&str, &[&str]); 4] = [
    ("httpGet", &["path", "port", "host", "scheme", "httpHeaders"]),
    ("tcpSocket", &["host", "port"]),
    ("exec", &["command"]),
    ("grpc", &["port", "service"]),
];

/// The probe at `at`, if there is one that does anything.
pub(crate) fn read(at: &Field<'_>, source: &mut Source) -> Result<Option<Probe>, ResourceError> {
    if !at.is_present() {
        return Ok(None);
    }
    let names: Vec<&str> = TIMES.into_iter().chain(METHODS.map(|(name, _)| name)).collect();
    let fields = at.fields(&names)?;
    let methods: Vec<_> = METHODS.iter().filter(|(name, _)| fields.get(name).is_present()).collect();
    if methods.len() > 1 {
        return Err(fields.get(methods[1].0).refuse("one of httpGet, tcpSocket, exec and grpc, not several"));
    }
    // 0 stands for the usual value, as in Kubernetes.
    let number = |name: &str, usual: u32| -> Result<u32, ResourceError> {
        let number = fields.get(name).integer(0..=i32::MAX as u32, "a number, 0 to 2147483647")?;
        Ok(number.filter(|number| *number > 0).unwrap_or(usual))
    };
    let seconds = |name: &str, usual: u32| number(name, usual).map(|seconds| Duration::from_secs(seconds.into()));
    let (initial_delay, timeout) = (seconds("initialDelaySeconds", 0)?, seconds("timeoutSeconds", 1)?);
    let (period, successes) = (seconds("periodSeconds", 10)?, number("successThreshold", 1)?);
    let failures = number("failureThreshold", 3)?;
    let Some((name, members)) = methods.first() else {
        source.warn(at, "does nothing: none of httpGet, tcpSocket, exec and grpc is given");
        return Ok(None);
    };
    let method = method(name, &fields.get(name).fields(members)?)?;
    Ok(Some(Probe { method, initial_delay, timeout, period, successes, failures }))
}

fn method(name: &str, fields: &Fields<'_>) -> Result<ProbeMethod, ResourceError> {
    let text = |name: &str| -> Result<Option<String>, ResourceError> {
        Ok(fields.get(name).text()?.filter(|text| !text.is_empty()).map(str::to_owned))
    };
    let port = || -> Result<u16, ResourceError> {
        let field = fields.get("port");
        field.port()?.ok_or_else(|| field.refuse("a port number, 1 to 65535"))
    };
    Ok(match name {
        "httpGet" => ProbeMethod::HttpGet {
            host: text("host")?,
            port: port()?,
            path: path(&fields.get("path"))?,
            is_https: scheme(&fields.get("scheme"))?,
            headers: fields.get("httpHeaders").items()?.iter().map(header).collect::<Result<_, _>>()?,
        },
        "tcpSocket" => ProbeMethod::TcpSocket { host: text("host")?, port: port()? },
        "grpc" => ProbeMethod::Grpc { port: port()?, service: text("service")?.unwrap_or_default() },
        _ => {
            let command = fields.get("command");
            let words = command.text_items()?;
            if words.first().is_none_or(String::is_empty) {
                return Err(command.refuse("a command and its arguments"));
            }
            ProbeMethod::Exec(words)
        }
    })
}

fn path(at: &Field<'_>) -> Result<String, ResourceError> {
    match at.text()?.filter(|path| !path.is_empty()) {
        None => Ok("/".to_owned()),
        Some(path) if path.bytes().any(|byte| !byte.is_ascii_graphic()) => {
            Err(at.refuse("a path of visible ASCII characters, e.g. /healthz"))
        }
        Some(path) if path.starts_with('/') => Ok(path.to_owned()),
        Some(path) => Ok(format!("/{path}")),
    }
}

fn scheme(at: &Field<'_>) -> Result<bool, ResourceError> {
    match at.text()? {
        None | Some("" | "HTTP") => Ok(false),
        Some("HTTPS") => Ok(true),
        Some(_) => Err(at.refuse("HTTP or HTTPS")),
    }
}

fn header(at: &Field<'_>) -> Result<(String, String), ResourceError> {
    let fields = at.fields(&["name", "value"])?;
    let (name, value) = (fields.get("name"), fields.get("value"));
    let text = name.required_text()?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if text.is_empty() || !text.bytes().all(legal) {
        return Err(name.refuse("letters, digits, '-' and '_'"));
    }
    let content = value.text()?.unwrap_or_default();
    if content.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(value.refuse("a header's value without control characters"));
    }
    Ok((text.to_owned(), content.to_owned()))
}

/// The probe of a proxy's own settings, written as a WorkloadGroup's `probe` is; `file` is for the error.
pub fn parse(file: &str, text: &str) -> Result<Option<Probe>, ResourceError> {
    let file = file.into();
    let mut source = Source::new(&file);
    let nodes = crate::node::read(&file, text, &crate::Limits::default())?;
    match nodes.first() {
        Some(node) => read(&Field::new(&file, "readinessProbe", node), &mut source),
        None => Ok(None),
    }
}
