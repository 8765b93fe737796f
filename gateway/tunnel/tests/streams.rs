//! TCP connections over real tunnels: bytes, half-closes and resets arrive as they were sent.

mod support;

use isthmus_tunnel::{CopyError, Refusal, Settings};
use std::time::Duration;
use support::{
    Carried, End, Pair, connected, copy, drain, eventually, exchange, guarded, header, in_time, noise, reset,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_stream_arrives_with_its_header_and_first_bytes_in_one_go() {
    let mut pair = Pair::start().await;
    let mut opened = pair.west.peers.open(pair.east(), &header(), b"first bytes").await.expect("a stream");
    let mut arrival = pair.east.arrival().await;
    assert_eq!((arrival.peer.as_str(), &arrival.header), ("west", &header()));
    let first = in_time("the payload", arrival.stream.read()).await.expect("open");
    assert_eq!(first.as_deref(), Some(&b"first bytes"[..]));
    arrival.stream.write("answer"[..].into()).await.expect("open");
    let answer = in_time("the answer", opened.read()).await.expect("open");
    assert_eq!(answer.as_deref(), Some(&b"answer"[..]));
}

#[tokio::test]
async fn bytes_go_both_ways_at_once() {
    let mut pair = Pair::start().await;
    let (upward, downward) = (noise(3_000_000, 1), noise(2_000_000, 2));
    let Carried { mut client, mut server, west, east } = pair.carry().await;
    let (received, asked) =
        tokio::join!(exchange(&mut client, &upward, downward.len()), exchange(&mut server, &downward, upward.len()));
    assert!(received == downward && asked == upward, "the bytes differ");
    client.shutdown().await.expect("open");
    server.shutdown().await.expect("open");
    assert_eq!((drain(&mut client).await.1, drain(&mut server).await.1), (End::Fin, End::Fin));
    in_time("west's end", west).await.expect("no panic").expect("in order");
    in_time("east's end", east).await.expect("no panic").expect("in order");
}

/// One side ends its sending; the other goes on for as long as it likes.
async fn half_close(first: &mut TcpStream, second: &mut TcpStream) {
    first.write_all(b"question").await.expect("open");
    first.shutdown().await.expect("open");
    assert_eq!(drain(second).await, (b"question".to_vec(), End::Fin));
    for round in 0..5 {
        let piece = noise(100_000, round);
        second.write_all(&piece).await.expect("open");
        let mut read = vec![0; piece.len()];
        in_time("a piece", first.read_exact(&mut read)).await.expect("carried");
        assert!(read == piece, "the bytes differ");
    }
    second.shutdown().await.expect("open");
    assert_eq!(drain(first).await, (Vec::new(), End::Fin));
}

#[tokio::test]
async fn either_side_may_end_its_half_first() {
    let mut pair = Pair::start().await;
    for client_first in [true, false] {
        let Carried { mut client, mut server, west, east } = pair.carry().await;
        if client_first {
            half_close(&mut client, &mut server).await;
        } else {
            half_close(&mut server, &mut client).await;
        }
        in_time("west's end", west).await.expect("no panic").expect("in order");
        in_time("east's end", east).await.expect("no panic").expect("in order");
    }
}

#[tokio::test]
async fn a_reset_on_either_side_is_a_reset_on_the_other() {
    let mut pair = Pair::start().await;
    for state in ["idle", "after bytes", "bytes under way", "after the other's FIN", "after its own FIN"] {
        for client_first in [true, false] {
            let Carried { client, server, west, east } = pair.carry().await;
            let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
            match state {
                "idle" => {}
                "after bytes" => {
                    first.write_all(b"x").await.expect("open");
                    in_time("a byte", second.read_exact(&mut [0])).await.expect("carried");
                }
                "bytes under way" => first.write_all(&noise(50_000, 3)).await.expect("open"),
                "after the other's FIN" => {
                    second.shutdown().await.expect("open");
                    assert_eq!(drain(&mut first).await.1, End::Fin);
                }
                _ => {
                    first.shutdown().await.expect("open");
                    assert_eq!(drain(&mut second).await.1, End::Fin);
                }
            }
            reset(first);
            if state == "after its own FIN" {
                // The end was read: only the socket's error tells of the reset.
                eventually("the reset", || matches!(second.take_error(), Ok(Some(_)))).await;
            } else {
                assert_eq!(drain(&mut second).await.1, End::Reset, "{state}");
            }
            assert!(in_time("west's end", west).await.expect("no panic").is_err(), "{state}");
            assert!(in_time("east's end", east).await.expect("no panic").is_err(), "{state}");
        }
    }
}

/// Writes until nothing more is taken.
async fn fill(stream: &mut TcpStream) {
    let block = vec![7; 64 << 10];
    while tokio::time::timeout(Duration::from_millis(300), stream.write_all(&block)).await.is_ok() {}
}

#[tokio::test]
async fn a_reset_overtakes_bytes_that_nobody_reads() {
    let mut pair = Pair::with(Settings { stream_window: 100_000, ..Settings::default() }).await;
    for client_first in [true, false] {
        let Carried { client, server, west, east } = pair.carry().await;
        let (mut first, second) = if client_first { (client, server) } else { (server, client) };
        fill(&mut first).await;
        reset(first);
        eventually("the reset", || matches!(second.take_error(), Ok(Some(_)))).await;
        assert!(in_time("west's end", west).await.expect("no panic").is_err());
        assert!(in_time("east's end", east).await.expect("no panic").is_err());
    }
}

#[tokio::test]
async fn a_refusal_resets_the_client_and_gives_the_reason() {
    let mut pair = Pair::start().await;
    for reason in [Refusal::NotExported, Refusal::Gone, Refusal::Loop, Refusal::Overloaded, Refusal::Unreachable] {
        let (opened, arrived) = pair.stream(b"hello").await;
        let (mut client, inner) = guarded().await;
        let west = tokio::spawn(copy(opened, inner));
        arrived.refuse(reason);
        let ended = in_time("west's end", west).await.expect("no panic");
        assert!(matches!(ended, Err(CopyError::Refused(met)) if met == reason), "{ended:?}");
        assert_eq!(drain(&mut client).await.1, End::Reset);
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_reset_and_not_finished() {
    let mut pair = Pair::start().await;
    let (opened, mut arrived) = pair.stream(b"beginning").await;
    in_time("the beginning", arrived.read()).await.expect("open");
    drop(opened);
    let ended = in_time("an end", arrived.read()).await;
    assert!(matches!(ended, Err(CopyError::Refused(Refusal::Reset))), "{ended:?}");
}

#[tokio::test]
async fn a_lost_tunnel_resets_its_connections() {
    let mut pair = Pair::start().await;
    let Carried { mut client, mut server, west, east } = pair.carry().await;
    client.write_all(b"x").await.expect("open");
    in_time("a byte", server.read_exact(&mut [0])).await.expect("carried");
    pair.east.stop().await;
    assert_eq!((drain(&mut client).await.1, drain(&mut server).await.1), (End::Reset, End::Reset));
    assert!(matches!(in_time("west's end", west).await.expect("no panic"), Err(CopyError::Lost)));
    assert!(matches!(in_time("east's end", east).await.expect("no panic"), Err(CopyError::Lost)));
}

#[tokio::test]
async fn a_copy_ends_in_order_only_once_all_bytes_have_arrived() {
    let mut pair = Pair::with(Settings { stream_window: 15_000_000, ..Settings::default() }).await;
    let bytes = noise(14_000_000, 4);
    let Carried { mut client, mut server, west, east } = pair.carry().await;
    client.shutdown().await.expect("open");
    assert_eq!(drain(&mut server).await.1, End::Fin);
    server.write_all(&bytes).await.expect("open");
    server.shutdown().await.expect("open");
    // As a gateway's drain does: east leaves as soon as the connection that it carried has ended.
    in_time("east's end", east).await.expect("no panic").expect("in order");
    pair.east.stop().await;
    connected(&pair.west.peers, pair.east(), 0).await;
    // The client begins to read only now: all that it is owed waits in west.
    let (read, end) = drain(&mut client).await;
    assert!(read == bytes && end == End::Fin, "{} of {} bytes, {end:?}", read.len(), bytes.len());
    in_time("west's end", west).await.expect("no panic").expect("in order");
}
