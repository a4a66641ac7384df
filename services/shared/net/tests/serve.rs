//! What a server does for its callers when it leaves, and what a peer may cost it.

mod common;
#[path = "common/frames.rs"]
mod frames;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use common::{PATIENCE, call, channel, in_time, plain, send, serve, until};
use frames::{
    ACK, CALM_DOWN, CANCEL, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, POST, PREFACE, SETTINGS, frame,
    next_frame, reset, until_kind,
};
use refract_net::{Error, ListenConfig};
use refract_resilience::drain;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::body::Body;

/// Longer than the test's patience: what ends sooner did not use the budget.
fn endless() -> drain::Config {
    drain::Config {
        lameduck: Duration::ZERO,
        finish_max: PATIENCE * 10,
    }
}

/// A peer that says hello and then nothing, not even to pings.
async fn mute_peer(address: std::net::SocketAddr) -> TcpStream {
    let mut peer = TcpStream::connect(address).await.unwrap();
    peer.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())
        .await
        .unwrap();
    let first = in_time(next_frame(&mut peer))
        .await
        .expect("the server's settings");
    assert_eq!(first.kind, SETTINGS);
    peer
}

#[tokio::test]
async fn a_call_in_progress_finishes_during_drain_and_nothing_new_gets_in() {
    let server = serve(ListenConfig::default(), endless()).await;
    let channel = channel(&server.address.to_string());
    let held = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "/held").await }
    });
    server.until_calls(1).await;

    in_time(server.drain.drain()).await;
    let refused = async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    in_time(refused).await;
    assert_eq!(server.stats.calls(), 1);

    server.desk.gate.add_permits(1);
    in_time(held).await.unwrap().unwrap();
    in_time(server.life).await.unwrap();
    assert_eq!(server.stats.cut(), 0);
}

#[tokio::test]
async fn a_silent_peer_does_not_delay_the_drain() {
    let server = serve(
        ListenConfig {
            preface_max: PATIENCE * 10,
            ..ListenConfig::default()
        },
        endless(),
    )
    .await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    until(|| server.stats.connections() == 1).await;
    server.drain.close();
    in_time(server.life).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_ignores_goaway_is_closed_after_a_moment() {
    let config = ListenConfig {
        linger_max: Duration::from_millis(20),
        ..ListenConfig::default()
    };
    let server = serve(config, endless()).await;
    let mut peer = mute_peer(server.address).await;
    server.drain.close();
    in_time(server.life).await.unwrap();
    let mut kinds = Vec::new();
    while let Some(frame) = in_time(next_frame(&mut peer)).await {
        kinds.push(frame.kind);
    }
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
}

#[tokio::test]
async fn a_call_that_never_ends_is_cut_when_the_budget_is_spent() {
    let brisk = drain::Config {
        lameduck: Duration::ZERO,
        finish_max: Duration::from_millis(50),
    };
    let server = serve(ListenConfig::default(), brisk).await;
    let channel = channel(&server.address.to_string());
    let held = tokio::spawn(async move { call(&channel, "/held").await });
    server.until_calls(1).await;
    server.drain.close();
    in_time(server.life).await.unwrap();
    let error = in_time(held).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error:?}");
}

#[tokio::test]
async fn a_peer_that_never_speaks_is_closed() {
    let config = ListenConfig {
        preface_max: Duration::from_millis(20),
        ..ListenConfig::default()
    };
    let server = serve(config, drain::Config::brisk()).await;
    let mut peer = TcpStream::connect(server.address).await.unwrap();
    // Half a preface is no better than none.
    peer.write_all(&PREFACE[..10]).await.unwrap();
    let mut rest = Vec::new();
    let _reset_or_end = in_time(peer.read_to_end(&mut rest)).await;
    until(|| server.stats.connections() == 0).await;
    assert_eq!(server.stats.silent(), 1);
}

#[tokio::test]
async fn limits_are_told_to_the_peer() {
    let server = plain().await;
    let mut peer = TcpStream::connect(server.address).await.unwrap();
    peer.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())
        .await
        .unwrap();
    let said = in_time(next_frame(&mut peer)).await.unwrap();
    let settings: Vec<(u16, u32)> = said
        .payload
        .chunks(6)
        .map(|s| {
            (
                u16::from_be_bytes([s[0], s[1]]),
                u32::from_be_bytes([s[2], s[3], s[4], s[5]]),
            )
        })
        .collect();
    assert!(
        settings.contains(&(3, 128)),
        "MAX_CONCURRENT_STREAMS: {settings:?}"
    );
    assert!(
        settings.contains(&(6, 16 << 10)),
        "MAX_HEADER_LIST_SIZE: {settings:?}"
    );
}

/// "MadeYouReset": each stream is opened properly and then made to fail by an overflowing window, so that the server
/// resets it itself.
#[tokio::test]
async fn a_peer_that_makes_us_reset_streams_is_closed() {
    let server = plain().await;
    let mut peer = mute_peer(server.address).await;
    let attack: Vec<u8> = (0..4000u32)
        .flat_map(|n| {
            let stream = 2 * n + 1;
            [
                frame(HEADERS, END_HEADERS, stream, &POST),
                frame(8, 0, stream, &0x7fff_ffffu32.to_be_bytes()),
            ]
            .concat()
        })
        .collect();
    let (mut reading, mut writing) = peer.split();
    let goaway = async {
        loop {
            let mut head = [0; 9];
            reading.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            reading.read_exact(&mut payload).await.ok()?;
            if head[3] == GOAWAY {
                return Some(u32::from_be_bytes([
                    payload[4], payload[5], payload[6], payload[7],
                ]));
            }
        }
    };
    let flood = async {
        // The server hangs up in the middle of it.
        let _cut_short = writing.write_all(&attack).await;
        std::future::pending::<()>().await;
    };
    let code = in_time(async {
        tokio::select! {
            code = goaway => code,
            () = flood => None,
        }
    });
    assert_eq!(code.await, Some(CALM_DOWN));
    in_time(call(&channel(&server.address.to_string()), "/quick"))
        .await
        .unwrap();
}

/// So many calls, each given up with the same breath, then a ping: all in one write, which the server reads before it looks
/// at any of them.
async fn give_up_at_once(peer: &mut TcpStream, calls: u32) {
    let begun_and_ended = |n: u32| {
        let stream = 2 * n + 1;
        [
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &POST),
            reset(stream, CANCEL),
        ]
        .concat()
    };
    let mut said: Vec<u8> = (0..calls).flat_map(begun_and_ended).collect();
    said.extend(frame(PING, 0, 0, b"are you?"));
    peer.write_all(&said).await.unwrap();
}

#[tokio::test]
async fn callers_who_give_up_together_lose_nobody_elses_call() {
    let server = plain().await;
    let mut peer = mute_peer(server.address).await;
    give_up_at_once(&mut peer, 300).await;
    let answer = until_kind(&mut peer, PING).await;
    assert_eq!((answer.flags, &answer.payload[..]), (ACK, &b"are you?"[..]));
}

/// "Rapid reset".
#[tokio::test]
async fn a_peer_that_gives_up_more_calls_than_honest_ones_have_is_closed() {
    let server = plain().await;
    let mut peer = mute_peer(server.address).await;
    give_up_at_once(&mut peer, 1_000).await;
    assert_eq!(until_kind(&mut peer, GOAWAY).await.code(), CALM_DOWN);
}

#[tokio::test]
async fn a_caller_who_sends_faster_than_he_is_read_keeps_nobody_else_waiting() {
    let config = ListenConfig {
        stream_window_bytes_max: 64 << 10,
        connection_window_bytes_max: 256 << 10,
        ..ListenConfig::default()
    };
    assert_eq!(config.check(), Ok(()));
    let server = serve(config, drain::Config::brisk()).await;
    let channel = channel(&server.address.to_string());
    // Nobody reads what `/held` brings.
    let eager = common::Endless::default();
    let given = eager.given.clone();
    let held = tokio::spawn({
        let (channel, body) = (channel.clone(), Body::new(eager));
        async move { send(&channel, "/held", body).await }
    });
    until(|| given.load(Ordering::SeqCst) > 64 << 10).await;
    let question = Body::new(http_body_util::Full::new(Bytes::from(vec![0; 10_000])));
    in_time(send(&channel, "/read", question)).await.unwrap();
    held.abort();
}

#[tokio::test]
async fn connections_above_the_cap_wait_their_turn() {
    let server = serve(
        ListenConfig {
            connections_max: 1,
            ..ListenConfig::default()
        },
        drain::Config::brisk(),
    )
    .await;
    let first = mute_peer(server.address).await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    second
        .write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())
        .await
        .unwrap();
    let mut one = [0];
    assert!(
        tokio::time::timeout(Duration::from_millis(50), second.peek(&mut one))
            .await
            .is_err(),
        "served above the cap"
    );
    drop(first);
    assert!(in_time(next_frame(&mut second)).await.is_some());
}

#[tokio::test]
async fn connections_that_grow_old_are_renewed_without_a_lost_call() {
    let config = ListenConfig {
        connection_age_max: Duration::from_millis(30),
        linger_max: Duration::from_millis(10),
        ..ListenConfig::default()
    };
    let server = serve(config, drain::Config::brisk()).await;
    let channel = channel(&server.address.to_string());
    let calls = async {
        while server.stats.accepted() < 4 {
            call(&channel, "/quick").await.unwrap();
        }
    };
    in_time(calls).await;
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let server = plain().await;
    let error = refract_net::Listener::bind(ListenConfig::at(server.address.to_string()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");
}
