//! Sends bytes as they are, and reads answers until there are no more.

use crate::ask::Numbers;
use crate::ledger::{Ledger, NUMBER};
use crate::raw_case::RawCase;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);
/// How long nothing more may come until it is believed that nothing will.
const QUIET: Duration = Duration::from_millis(150);

/// All that is wrong with what came back.
pub async fn talk(mesh: IpAddr, step: &RawCase, numbers: &Numbers, ledger: &Ledger) -> Vec<String> {
    let number = numbers.next();
    let came = match timeout(LIMIT, exchange(SocketAddr::new(mesh, step.to.port), step, &number)).await {
        Ok(Ok(came)) => came,
        Ok(Err(error)) => return vec![error.to_string()],
        Err(_) => return vec![format!("no answer within {LIMIT:?}")],
    };
    let (text, expect) = (String::from_utf8_lossy(&came).to_ascii_lowercase(), &step.expect);
    let mut wrong = Vec::new();
    let statuses = statuses(&text);
    if statuses != expect.status {
        wrong.push(format!("expected {:?}, came {statuses:?}", expect.status));
    }
    let lacking = expect.contains.iter().filter(|part| !text.contains(*part));
    wrong.extend(lacking.map(|part| format!("{part:?} is not there")));
    let surplus = expect.lacks.iter().filter(|part| text.contains(*part));
    wrong.extend(surplus.map(|part| format!("{part:?} is there")));
    let seen = ledger.originals(&number);
    if expect.seen.is_some_and(|wanted| wanted != seen.len()) {
        wrong.push(format!("expected {:?} to be seen, were {}", expect.seen, seen.len()));
    }
    if let Some(path) = &expect.path
        && seen.last().map(|seen| &seen.path) != Some(path)
    {
        wrong.push(format!("expected the path {path}, saw {:?}", seen.last().map(|seen| &seen.path)));
    }
    if wrong.is_empty() { wrong } else { vec![format!("{:?}: {}; came {text:?}", step.send, wrong.join("; "))] }
}

/// Reads until the connection ends, or as many answers came as are expected and no more follow.
async fn exchange(at: SocketAddr, step: &RawCase, number: &str) -> io::Result<Vec<u8>> {
    let mut tcp = TcpStream::connect(at).await?;
    let (mut reader, mut writer) = tcp.split();
    // Who is refused at the beginning does not read on.
    let _ = writer.write_all(&step.bytes(&format!("{NUMBER}: {number}"))).await;
    let mut came = Vec::new();
    loop {
        let is_enough = statuses(&String::from_utf8_lossy(&came)).len() >= step.expect.status.len();
        let limit = if is_enough { QUIET } else { LIMIT };
        match timeout(limit, reader.read_buf(&mut came)).await {
            Ok(Ok(1..)) => {}
            _ => return Ok(came),
        }
    }
}

fn statuses(text: &str) -> Vec<u16> {
    let starts = text.match_indices("http/1.").chain(text.match_indices("HTTP/1."));
    starts.filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok()).collect()
}
