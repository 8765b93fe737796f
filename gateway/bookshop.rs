//! The demo's applications: a bookshop of four services that know nothing of any mesh.
//!
//! ```text
//! productpage ──▶ details
//!      └────────▶ reviews v1 │ v2 │ v3 ──▶ ratings
//! ```
//!
//! Each asks the others by their host names through one address, its sidecar's outbound listener.

use crate::http_client::{Client, Reply};
use anyhow::Context;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

const UPSTREAM_DEADLINE: Duration = Duration::from_secs(3);
const CONNECTIONS: usize = 1024;
const IDLE_CLIENTS: usize = 16;
/// The port of every service of the bookshop.
pub const PORT: u16 = 9080;

/// One of the bookshop's applications.
#[derive(Debug, Clone, Args)]
pub struct Bookshop {
    /// Which service to be.
    #[arg(value_enum)]
    pub service: Title,
    /// Where to listen.
    #[arg(long)]
    pub listen: SocketAddr,
    /// The version to show; reviews differ by it.
    #[arg(long, default_value = "v1")]
    pub version: String,
    /// The name of the cluster to show.
    #[arg(long, default_value = "")]
    pub cluster: String,
    /// The sidecar's outbound HTTP listener, through which the other services are asked.
    #[arg(long)]
    pub mesh: Option<SocketAddr>,
}

/// The bookshop's services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Title {
    /// The page a person sees.
    Productpage,
    /// Facts about the book.
    Details,
    /// What readers think: v1 without stars, v2 with black, v3 with red ones.
    Reviews,
    /// The stars.
    Ratings,
}

/// Idle connections to the sidecar, shared by the requests.
struct Mesh {
    address: Option<SocketAddr>,
    idle: Mutex<Vec<Client>>,
}

struct App {
    about: Bookshop,
    mesh: Mesh,
}

/// Serves until `shutdown`.
///
/// # Errors
/// If the address cannot be bound.
pub async fn run(about: Bookshop, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(about.listen).await.with_context(|| format!("listen: bind {}", about.listen))?;
    let mesh = Mesh { address: about.mesh, idle: Mutex::default() };
    let app = Arc::new(App { about, mesh });
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let stream = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => match accepted { Ok((stream, _)) => stream, Err(_) => continue },
        };
        stream.set_nodelay(true)?;
        let (app, shutdown) = (app.clone(), shutdown.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let app = app.clone();
                async move { Ok::<_, Infallible>(app.answer(&request).await) }
            });
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service) => {}
            }
            drop(place);
        });
    }
}

// === impl App ===

impl App {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() == "/healthz" {
            return json_response(StatusCode::OK, &json!({"status": "ok"}));
        }
        let headers = request.headers();
        let page = matches!(self.about.service, Title::Productpage) && !request.uri().path().starts_with("/api");
        let answer = match self.about.service {
            Title::Productpage => self.product(headers).await,
            Title::Details => Ok(details()),
            Title::Reviews => self.reviews(headers).await,
            Title::Ratings => Ok(json!({"ratings": {"A walker": 5, "A ferryman": 4}})),
        };
        match answer {
            Ok(mut body) => {
                body["served"] = self.served(headers);
                if page { html_response(&body) } else { json_response(StatusCode::OK, &body) }
            }
            Err(error) => json_response(StatusCode::BAD_GATEWAY, &json!({"error": error.to_string()})),
        }
    }

    /// Who answered, and who asked according to the mesh.
    fn served(&self, headers: &HeaderMap) -> Value {
        json!({
            "by": format!("{}-{}", self.about.service.name(), self.about.version),
            "cluster": self.about.cluster,
            "caller": caller(headers),
        })
    }

    async fn product(&self, headers: &HeaderMap) -> anyhow::Result<Value> {
        let details = self.mesh.ask("details", headers).await;
        let reviews = self.mesh.ask("reviews", headers).await;
        Ok(json!({
            "details": details.unwrap_or_else(|error| json!({"error": error.to_string()})),
            "reviews": reviews.unwrap_or_else(|error| json!({"error": error.to_string()})),
        }))
    }

    async fn reviews(&self, headers: &HeaderMap) -> anyhow::Result<Value> {
        let mut reviews = json!([
            {"reader": "A walker", "text": "Two seas, one path, and hardly a dull page between them."},
            {"reader": "A ferryman", "text": "I did not think the land could be crossed. I stand corrected."},
        ]);
        let color = match self.about.version.as_str() {
            "v2" => "black",
            "v3" => "red",
            _ => return Ok(json!({ "reviews": reviews })),
        };
        let ratings = self.mesh.ask("ratings", headers).await?;
        for review in reviews.as_array_mut().into_iter().flatten() {
            let reader = review["reader"].as_str().unwrap_or_default().to_owned();
            review["stars"] = ratings["ratings"][&reader].clone();
            review["color"] = color.into();
        }
        Ok(json!({ "reviews": reviews }))
    }
}

// === impl Mesh ===

impl Mesh {
    /// GETs the root of a service of the bookshop by its host name.
    async fn ask(&self, service: &str, headers: &HeaderMap) -> anyhow::Result<Value> {
        let address = self.address.context("this application was started without --mesh")?;
        let idle = self.idle.lock().await.pop();
        let mut client = idle.unwrap_or_else(|| Client::new(address, UPSTREAM_DEADLINE));
        let host = format!("{service}.bookinfo.svc.cluster.local:{PORT}");
        let Reply { status, body, .. } = client.get(&host, "/", headers).await?;
        let mut pool = self.idle.lock().await;
        if pool.len() < IDLE_CLIENTS {
            pool.push(client);
        }
        drop(pool);
        anyhow::ensure!(status == 200, "{service} answered {status}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).with_context(|| format!("{service}'s answer"))
    }
}

// === impl Title ===

impl Title {
    /// The service's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Productpage => "productpage",
            Self::Details => "details",
            Self::Reviews => "reviews",
            Self::Ratings => "ratings",
        }
    }
}

fn details() -> Value {
    json!({"title": "The Narrow Land", "subtitle": "How two seas came to trade", "author": "I. T. Canal", "pages": 251})
}

/// The caller's SPIFFE id, as the sidecar wrote it at the end of `x-forwarded-client-cert`: what stands before is what the
/// caller says.
fn caller(headers: &HeaderMap) -> Option<&str> {
    let certificate = headers.get_all("x-forwarded-client-cert").iter().next_back()?.to_str().ok()?;
    certificate.rsplit([';', ',']).find_map(|part| part.trim().strip_prefix("URI="))
}

fn json_response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    response(status, "application/json", body.to_string())
}

fn html_response(body: &Value) -> Response<Full<Bytes>> {
    response(StatusCode::OK, "text/html; charset=utf-8", page(body))
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .body(Full::new(body.into()))
        .expect("a constant header name and value")
}

fn page(body: &Value) -> String {
    let text = |value: &Value| escape(value.as_str().unwrap_or_default());
    let details = &body["details"];
    let served = |part: &Value| {
        format!(
            "{} in {}, asked by {}",
            text(&part["served"]["by"]),
            text(&part["served"]["cluster"]),
            text(&part["served"]["caller"])
        )
    };
    let reviews: String = body["reviews"]["reviews"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|review| {
            let stars = "★".repeat(review["stars"].as_u64().unwrap_or_default() as usize);
            let color = text(&review["color"]);
            format!(
                "<blockquote>{}<footer>{} <span style=\"color:{color}\">{stars}</span></footer></blockquote>",
                text(&review["text"]),
                text(&review["reader"])
            )
        })
        .collect();
    format!(
        "<!doctype html><meta charset=utf-8><title>{title}</title>\
         <style>body{{font:17px/1.5 Georgia,serif;max-width:40em;margin:3em auto;padding:0 1em;color:#222}}\
         footer,small{{color:#666;font-size:.85em}}blockquote{{border-left:3px solid #ccc;margin:1em 0;padding-left:1em}}</style>\
         <h1>{title}</h1><p><i>{subtitle}</i> by {author}, {pages} pages<br><small>{details_served}</small></p>\
         <h2>Readers say</h2>{reviews}<small>{reviews_served}</small>",
        title = text(&details["title"]),
        subtitle = text(&details["subtitle"]),
        author = text(&details["author"]),
        pages = details["pages"],
        details_served = served(details),
        reviews_served = served(&body["reviews"]),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
