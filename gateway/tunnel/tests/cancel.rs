//! A copy may be dropped at any of its awaits: what it carried is then reset, on both sides, and never ended.

mod support;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use support::{End, Pair, copy, drain, guarded, header, in_time, metrics, noise};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Polls `future` at most `polls` times, then drops it: its output, or nothing.
async fn cut<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // The last poll was had: whoever would wake the future wakes nobody.
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Writes for ever, and reads to the end.
async fn chatter(mut stream: TcpStream) -> End {
    let piece = noise(10_000, 5);
    let (mut reader, mut writer) = stream.split();
    let mut sink = vec![0; 10_000];
    loop {
        // What cannot be written any more is read to its end.
        let ended = tokio::select! {
            written = writer.write_all(&piece) => written.is_err(),
            read = tokio::io::AsyncReadExt::read(&mut reader, &mut sink) => match read {
                Ok(0) => return End::Fin,
                read => read.is_err(),
            },
        };
        if ended {
            return End::Reset;
        }
    }
}

fn spawn(stream: TcpStream) -> JoinHandle<End> {
    tokio::spawn(chatter(stream))
}

#[tokio::test]
async fn a_copy_dropped_among_bytes_resets_both_sides() {
    let mut pair = Pair::start().await;
    for polls in 0..20 {
        for west_is_cut in [true, false] {
            let (opened, arrived) = pair.stream(b"").await;
            let ((client, inner), (server, outer)) = (guarded().await, guarded().await);
            let (client, server) = (spawn(client), spawn(server));
            let ((cut_off, near), (whole, far)) =
                if west_is_cut { ((opened, inner), (arrived, outer)) } else { ((arrived, outer), (opened, inner)) };
            let whole = tokio::spawn(copy(whole, far));
            assert!(in_time("the cut", cut(copy(cut_off, near), polls)).await.is_none(), "it ended by itself");
            let ends = (in_time("the client's end", client).await, in_time("the server's end", server).await);
            assert!(matches!(ends, (Ok(End::Reset), Ok(End::Reset))), "after {polls} polls: {ends:?}");
            assert!(in_time("the other copy's end", whole).await.expect("no panic").is_err());
        }
    }
}

#[tokio::test]
async fn a_copy_dropped_around_the_end_never_makes_less_look_whole() {
    let mut pair = Pair::start().await;
    let sent = noise(300_000, 6);
    let (mut resets, mut ends) = (0, 0);
    for polls in 0..40 {
        for west_is_cut in [true, false] {
            let (opened, arrived) = pair.stream(b"").await;
            let ((mut client, inner), (mut server, outer)) = (guarded().await, guarded().await);
            let bytes = sent.clone();
            let writer = tokio::spawn(async move {
                // An error is a reset, which the server's side tells of.
                let _ = client.write_all(&bytes).await;
                let _ = client.shutdown().await;
                client
            });
            let ((cut_off, near), (whole, far)) =
                if west_is_cut { ((opened, inner), (arrived, outer)) } else { ((arrived, outer), (opened, inner)) };
            let whole = tokio::spawn(copy(whole, far));
            let cut_off = tokio::spawn(async move { cut(copy(cut_off, near), polls).await.is_some() });
            let (read, end) = drain(&mut server).await;
            match end {
                End::Fin => assert!(read == sent, "after {polls} polls {} bytes looked whole", read.len()),
                End::Reset => resets += 1,
            }
            ends += usize::from(end == End::Fin);
            drop((server, in_time("the writer", writer).await.expect("no panic")));
            in_time("the cut", cut_off).await.expect("no panic");
            let _ = in_time("the other copy's end", whole).await.expect("no panic");
        }
    }
    assert!(resets > 0 && ends > 0, "both were met: {resets} resets, {ends} ends");
}

#[tokio::test]
async fn an_opening_that_is_dropped_ends_nothing_in_order() {
    let mut pair = Pair::start().await;
    let payload = noise(3_000_000, 7);
    for polls in 1..8 {
        let (header, east) = (header(), pair.east().clone());
        let opening = pair.west.peers.open(&east, &header, &payload);
        let reading = async {
            // The stream was reset, maybe before its header was there.
            let Some(Ok(mut arrival)) = pair.east.incoming.recv().await else { return };
            let mut read = 0;
            while let Ok(chunk) = arrival.stream.read().await {
                read += chunk.expect("a part of the payload looked whole").len();
            }
            assert!(read <= payload.len());
        };
        in_time("both", async { tokio::join!(async { drop(cut(opening, polls).await) }, reading) }).await;
    }
}

#[tokio::test]
async fn a_guarded_connection_that_is_dropped_is_reset() {
    let (mut client, inner) = guarded().await;
    drop(inner);
    assert_eq!(drain(&mut client).await.1, End::Reset);
    // Nor does a copy that was never polled end anything.
    let mut pair = Pair::start().await;
    let (opened, mut arrived) = pair.stream(b"").await;
    let (mut client, inner) = guarded().await;
    let counters = metrics();
    drop(opened.copy(inner, &counters));
    assert_eq!(drain(&mut client).await.1, End::Reset);
    assert!(in_time("an end", arrived.read()).await.is_err());
}
