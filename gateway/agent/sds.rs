//! Hands the workload's certificate to the Envoy beside us, over a Unix socket that only our user can open.
//!
//! Envoy's secret discovery service, in its state-of-the-world form: one secret, `default`, sent anew at each renewal.

use api::envoy::envoy::config::core::v3::{DataSource, data_source::Specifier};
use api::envoy::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret};
use api::envoy::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use api::envoy::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use api::envoy::google::protobuf::Any;
use futures_util::Stream;
use identity::Identity;
use prost::Message;
use std::path::Path;
use std::pin::Pin;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use xds::type_url;

/// The name of the workload's own certificate, Istio's.
const SECRET: &str = "default";

/// Serves the current certificate of `identity` on a socket at `path`, until `shutdown`.
///
/// # Errors
/// If the socket cannot be bound.
pub async fn serve(path: &Path, identity: Identity, shutdown: CancellationToken) -> anyhow::Result<()> {
    // What a killed predecessor left.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    let service = SecretDiscoveryServiceServer::new(Secrets { identity });
    let server = tonic::transport::Server::builder().add_service(service);
    server.serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown.cancelled()).await?;
    let _ = std::fs::remove_file(path);
    Ok(())
}

struct Secrets {
    identity: Identity,
}

type Responses = Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Secrets {
    type StreamSecretsStream = Responses;
    type DeltaSecretsStream = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(answer(self.identity.clone(), request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("the bootstrap asks for secrets in the state-of-the-world form"))
    }

    async fn fetch_secrets(&self, _: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("secrets are streamed"))
    }
}

/// Answers the first request at once, and then at each renewal. ACKs need no answer; Envoy logs its own NACKs.
async fn answer(
    identity: Identity,
    mut requests: Streaming<DiscoveryRequest>,
    sender: mpsc::Sender<Result<DiscoveryResponse, Status>>,
) {
    let mut changes = identity.changes();
    let mut version = 0_u64;
    loop {
        let due = tokio::select! {
            () = sender.closed() => return,
            changed = changes.changed() => changed.is_ok() && version > 0,
            request = requests.message() => match request {
                Ok(Some(request)) => asks_anew(&request, version),
                Ok(None) | Err(_) => return,
            },
        };
        if due {
            version += 1;
            if sender.send(Ok(response(&identity, version))).await.is_err() {
                return;
            }
        }
    }
}

fn asks_anew(request: &DiscoveryRequest, version: u64) -> bool {
    if let Some(error) = &request.error_detail {
        tracing::warn!(message = error.message, "Envoy refused its certificate");
    }
    version == 0 && request.resource_names.iter().any(|name| name == SECRET)
}

fn response(identity: &Identity, version: u64) -> DiscoveryResponse {
    let certificate = identity.certificate();
    let inline =
        |text: String| Some(DataSource { specifier: Some(Specifier::InlineString(text)), ..DataSource::default() });
    let secret = Secret {
        name: SECRET.to_owned(),
        r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline(certificate.chain_pem()),
            private_key: inline(certificate.key_pem()),
            ..TlsCertificate::default()
        })),
    };
    DiscoveryResponse {
        version_info: version.to_string(),
        nonce: version.to_string(),
        type_url: type_url::SECRET.to_owned(),
        resources: vec![Any { type_url: type_url::SECRET.to_owned(), value: secret.encode_to_vec() }],
        ..DiscoveryResponse::default()
    }
}
