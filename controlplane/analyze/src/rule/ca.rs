//! TLS towards a service whose certificate nobody checks against roots of the service's own.

use crate::index::World;
use crate::{Code, Message, code};
use config::{ClientTls, DestinationRule, TlsMode, TrafficPolicy};

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    for rule in &world.intent.destination_rules {
        check_policy(world, rule, "spec.trafficPolicy", &rule.policy, messages);
        for (i, subset) in rule.subsets.iter().enumerate() {
            check_policy(world, rule, &format!("spec.subsets[{i}].trafficPolicy"), &subset.policy, messages);
        }
    }
}

fn check_policy(
    world: &World<'_>,
    rule: &DestinationRule,
    at: &str,
    policy: &TrafficPolicy,
    messages: &mut Vec<Message>,
) {
    let mut say = |code: &'static Code, tls: &ClientTls, path: String, port: &str| {
        let mode = mode(tls);
        let (namespace, name, host) = (&rule.namespace, &rule.name, &rule.host);
        let text = format!(
            "DestinationRule {name} in namespace {namespace} has TLS mode set to {mode} but no caCertificates are set to \
             validate server identity for host: {host}{port}"
        );
        messages.extend(world.say(code, ("DestinationRule", namespace, name), path, text));
    };
    if let Some(tls) = policy.general.tls.as_ref().filter(|tls| trusts_all(tls)) {
        say(code::NO_CA, tls, format!("{at}.tls"), "");
    }
    for (port, own) in &policy.ports {
        if let Some(tls) = own.tls.as_ref().filter(|tls| trusts_all(tls)) {
            say(code::NO_CA_AT_PORT, tls, format!("{at}.portLevelSettings"), &format!(" at port {port}"));
        }
    }
}

/// Whether the roots are those of the system, or none.
fn trusts_all(tls: &ClientTls) -> bool {
    let has_roots = tls.ca_certificates.is_some() || tls.credential.is_some();
    matches!(tls.mode, TlsMode::Simple | TlsMode::Mutual(..)) && (!has_roots || tls.insecure)
}

fn mode(tls: &ClientTls) -> &'static str {
    match tls.mode {
        TlsMode::Disable => "DISABLE",
        TlsMode::Simple => "SIMPLE",
        TlsMode::Mutual(..) => "MUTUAL",
        TlsMode::IstioMutual => "ISTIO_MUTUAL",
    }
}
