//! The chain that is found is the one that a look at each of them finds.

use super::*;
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

const NAMES: [&str; 6] =
    ["a.example.com", "b.example.com", "*.example.com", "*.com", "*.b.example.com", "c.b.example.com"];
const NETS: [&str; 3] = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32"];

fn chain(number: usize, bits: u32) -> Chain {
    let bit = |n: u32| bits >> n & 1 == 1;
    let chosen = |from: u32, all: &[&str]| -> Vec<String> {
        (0..).zip(all).filter(|(n, _)| bit(from + n) && bit(from + n + 1)).map(|(_, one)| (*one).to_owned()).collect()
    };
    let nets = |from: u32| chosen(from, &NETS).iter().map(|net| net.parse().expect("a net")).collect();
    let matches = ChainMatch {
        destination_port: bit(0).then_some(if bit(1) { 80 } else { 443 }),
        destinations: nets(2),
        sources: nets(6),
        server_names: chosen(10, &NAMES),
        transport: bit(18).then_some(if bit(19) { Transport::Tls } else { Transport::Raw }),
        application_protocols: chosen(20, &["istio", "h2", "http/1.1"]),
    };
    let targets = vec![(number.to_string().into(), 1)];
    let handler = Handler::Tcp(StreamHandler {
        targets,
        idle: None,
        longest: None,
        by_source: false,
        tunnel: None,
        named_port: None,
    });
    Chain { matches, tls: None, policies: Arc::default(), handler }
}

/// As Envoy's documentation has it, looking at each.
fn naive<'a>(chains: &'a [Chain], to: SocketAddr, source: IpAddr, beginning: Beginning<'_>) -> Option<&'a Chain> {
    let named = |chain: &Chain| {
        let names = &chain.matches.server_names;
        if names.is_empty() {
            return Some(0);
        }
        let Beginning::Tls { server_name, .. } = beginning else { return None };
        let fit = |name: &String| match name.strip_prefix('*') {
            Some(suffix) => (server_name.len() > suffix.len() && server_name.ends_with(suffix)).then_some(name.len()),
            None => (name.as_str() == server_name).then_some(usize::MAX),
        };
        names.iter().filter_map(fit).max()
    };
    let mut left: Vec<&Chain> = chains.iter().collect();
    keep(&mut left, |chain| match chain.matches.destination_port {
        None => Some(0),
        Some(wanted) => (wanted == to.port()).then_some(1),
    });
    keep(&mut left, |chain| ChainMatch::within(&chain.matches.destinations, to.ip()));
    keep(&mut left, named);
    keep(&mut left, |chain| chain.matches.transport(beginning));
    keep(&mut left, |chain| chain.matches.application(beginning));
    keep(&mut left, |chain| ChainMatch::within(&chain.matches.sources, source));
    left.first().copied()
}

fn target(chain: Option<&Chain>) -> Option<String> {
    chain.map(|chain| match &chain.handler {
        Handler::Tcp(stream) => stream.target(0).to_string(),
        Handler::Http(_) => unreachable!("there is none"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(5000) })]

    #[test]
    fn as_a_look_at_each(bits in vec(any::<u32>(), 0..8), to in 0..4usize, name in 0..8usize, kind in 0..4usize) {
        let chains: Vec<Chain> = bits.iter().enumerate().map(|(number, bits)| chain(number, *bits)).collect();
        let listener = Listener {
            name: "l".into(), bind: vec![], captures: vec![], direction: Direction::Outbound,
            original_destination: false, inspects: true, inspection: Duration::ZERO,
            groups: groups(&chains), chains: chains.clone(), otherwise: None,
        };
        let to: SocketAddr = ["10.1.2.3:443", "10.1.9.9:80", "10.9.9.9:443", "192.0.2.1:80"][to].parse().expect("valid");
        let alpn = vec!["h2".to_owned()];
        let asked = ["a.example.com", "x.example.com", "c.b.example.com", "x.b.example.com", "x.com", "y.org", "", "com"];
        let beginning = match kind {
            0 => Beginning::Bytes,
            1 => Beginning::Http1,
            _ => Beginning::Tls { server_name: asked[name], alpn: if kind == 2 { &alpn } else { &[] } },
        };
        let source = to.ip();
        prop_assert_eq!(
            target(listener.chain(to, source, beginning)),
            target(naive(&chains, to, source, beginning))
        );
    }
}
