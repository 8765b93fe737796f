//! `isthmus redirect`: the packet-filter rules that bring a workload's traffic to its sidecar.
//!
//! ```text
//! application ──TCP──▶ 15001 (outbound)     anyone ──TCP──▶ 15006 (inbound)     application ──port 53──▶ 15053
//! ```
//!
//! The sidecar's own traffic is told apart by its user or group, as with Istio. Every value that reaches a rule is a
//! number or a network: nothing a user writes is ever pasted into one.

use anyhow::{Context, ensure};
use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

const OUTBOUND: u16 = 15001;
const INBOUND: u16 = 15006;
const DNS: u16 = 15053;
/// The sidecar's own ports, which are never captured.
const OWN_PORTS: [u16; 7] = [15000, 15001, 15006, 15020, 15021, 15053, 15090];

/// What to do with the rules.
#[derive(Debug, Subcommand)]
pub enum Redirect {
    /// Print the rules as `apply` would load them.
    Print(Rules),
    /// Load the rules, replacing those of an earlier `apply`.
    Apply(Rules),
    /// Remove the rules without trace.
    Remove {
        /// The tool that loaded them.
        #[arg(long, value_enum, default_value_t)]
        backend: Backend,
    },
}

/// What is captured and what is not.
#[derive(Debug, Args)]
pub struct Rules {
    /// The tool that loads them.
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,
    /// The user that the sidecar runs as.
    #[arg(long, default_value_t = 1337)]
    proxy_uid: u32,
    /// The group that the sidecar runs as.
    #[arg(long, default_value_t = 1337)]
    proxy_gid: u32,
    /// Destination ports that leave without the sidecar.
    #[arg(long, value_delimiter = ',')]
    exclude_outbound_ports: Vec<u16>,
    /// Destination networks that are reached without the sidecar.
    #[arg(long, value_delimiter = ',')]
    exclude_outbound_ip_ranges: Vec<IpNet>,
    /// Ports that are reached without the sidecar.
    #[arg(long, value_delimiter = ',')]
    exclude_inbound_ports: Vec<u16>,
    /// Leave DNS alone.
    #[arg(long)]
    no_dns: bool,
}

/// A tool that loads rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// `nft`, one table for both families.
    #[default]
    Nftables,
    /// `iptables-restore` and `ip6tables-restore`.
    Iptables,
}

/// Runs the subcommand.
///
/// # Errors
/// If the tool is missing or refuses, with what it said.
pub fn run(redirect: &Redirect) -> anyhow::Result<()> {
    match redirect {
        Redirect::Print(rules) => {
            for (tool, _, text) in rules.scripts() {
                println!("# {tool}\n{text}");
            }
            Ok(())
        }
        Redirect::Apply(rules) => {
            remove(rules.backend)?;
            rules.scripts().iter().try_for_each(|(tool, args, text)| feed(tool, args, text))
        }
        Redirect::Remove { backend } => remove(*backend),
    }
}

// === impl Rules ===

impl Rules {
    fn scripts(&self) -> Vec<(&'static str, &'static [&'static str], String)> {
        match self.backend {
            Backend::Nftables => vec![("nft", &["-f", "-"], self.nftables())],
            Backend::Iptables => vec![
                ("iptables-restore", &["--noflush"], self.iptables(false)),
                ("ip6tables-restore", &["--noflush"], self.iptables(true)),
            ],
        }
    }

    fn nftables(&self) -> String {
        let mut output =
            format!("    meta skuid {} return\n    meta skgid {} return\n", self.proxy_uid, self.proxy_gid);
        if !self.no_dns {
            let _ = writeln!(output, "    meta l4proto {{ tcp, udp }} th dport 53 redirect to :{DNS}");
        }
        output.push_str("    oifname \"lo\" return\n    ip daddr 127.0.0.0/8 return\n    ip6 daddr ::1 return\n");
        for network in &self.exclude_outbound_ip_ranges {
            let family = if network.addr().is_ipv4() { "ip" } else { "ip6" };
            let _ = writeln!(output, "    {family} daddr {network} return");
        }
        if !self.exclude_outbound_ports.is_empty() {
            let _ = writeln!(output, "    tcp dport {{ {} }} return", list(&self.exclude_outbound_ports, ", "));
        }
        format!(
            "table inet isthmus {{\n  chain output {{\n    type nat hook output priority -100; policy accept;\n{output}    \
             meta l4proto tcp redirect to :{OUTBOUND}\n  }}\n  chain prerouting {{\n    \
             type nat hook prerouting priority -100; policy accept;\n    iifname \"lo\" return\n    \
             tcp dport {{ {} }} return\n    meta l4proto tcp redirect to :{INBOUND}\n  }}\n}}\n",
            list(&self.inbound_exempt(), ", ")
        )
    }

    fn iptables(&self, v6: bool) -> String {
        let mut text = "*nat\n:ISTHMUS_OUTPUT - [0:0]\n:ISTHMUS_INBOUND - [0:0]\n".to_owned();
        let mut rule = |line: String| text.push_str(&(line + "\n"));
        rule(format!("-A ISTHMUS_OUTPUT -m owner --uid-owner {} -j RETURN", self.proxy_uid));
        rule(format!("-A ISTHMUS_OUTPUT -m owner --gid-owner {} -j RETURN", self.proxy_gid));
        if !self.no_dns {
            for protocol in ["tcp", "udp"] {
                rule(format!("-A ISTHMUS_OUTPUT -p {protocol} --dport 53 -j REDIRECT --to-ports {DNS}"));
            }
        }
        rule("-A ISTHMUS_OUTPUT -o lo -j RETURN".to_owned());
        rule(format!("-A ISTHMUS_OUTPUT -d {} -j RETURN", if v6 { "::1/128" } else { "127.0.0.0/8" }));
        for network in self.exclude_outbound_ip_ranges.iter().filter(|network| network.addr().is_ipv6() == v6) {
            rule(format!("-A ISTHMUS_OUTPUT -d {network} -j RETURN"));
        }
        for port in &self.exclude_outbound_ports {
            rule(format!("-A ISTHMUS_OUTPUT -p tcp --dport {port} -j RETURN"));
        }
        rule(format!("-A ISTHMUS_OUTPUT -p tcp -j REDIRECT --to-ports {OUTBOUND}"));
        rule("-A ISTHMUS_INBOUND -i lo -j RETURN".to_owned());
        for port in self.inbound_exempt() {
            rule(format!("-A ISTHMUS_INBOUND -p tcp --dport {port} -j RETURN"));
        }
        rule(format!("-A ISTHMUS_INBOUND -p tcp -j REDIRECT --to-ports {INBOUND}"));
        rule("-A OUTPUT -j ISTHMUS_OUTPUT".to_owned());
        rule("-A PREROUTING -p tcp -j ISTHMUS_INBOUND".to_owned());
        rule("COMMIT".to_owned());
        text
    }

    fn inbound_exempt(&self) -> Vec<u16> {
        OWN_PORTS.iter().chain(&self.exclude_inbound_ports).copied().collect()
    }
}

/// Removes what `apply` loaded; nothing there is as good.
fn remove(backend: Backend) -> anyhow::Result<()> {
    match backend {
        // `add` makes the table exist, so that `delete` cannot fail on its absence.
        Backend::Nftables => feed("nft", &["-f", "-"], "add table inet isthmus\ndelete table inet isthmus\n"),
        Backend::Iptables => {
            for tool in ["iptables", "ip6tables"] {
                for (hook, chain) in [("OUTPUT", "ISTHMUS_OUTPUT"), ("PREROUTING", "ISTHMUS_INBOUND")] {
                    let jump: &[&str] = if hook == "OUTPUT" { &[] } else { &["-p", "tcp"] };
                    let delete = [&["-w", "-t", "nat", "-D", hook], jump, &["-j", chain]].concat();
                    quietly(tool, &delete)?;
                    quietly(tool, &["-w", "-t", "nat", "-F", chain])?;
                    quietly(tool, &["-w", "-t", "nat", "-X", chain])?;
                }
            }
            Ok(())
        }
    }
}

fn feed(tool: &str, args: &[&str], text: &str) -> anyhow::Result<()> {
    let mut child = Command::new(tool)
        .args(args)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{tool} cannot be run: is it installed?"))?;
    child.stdin.take().expect("piped above").write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Runs a removal whose failure only means that there was nothing to remove.
fn quietly(tool: &str, args: &[&str]) -> anyhow::Result<()> {
    Command::new(tool)
        .args(args)
        .stderr(Stdio::null())
        .status()
        .map(drop)
        .with_context(|| format!("{tool} cannot be run: is it installed?"))
}

fn list(ports: &[u16], separator: &str) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(separator)
}
