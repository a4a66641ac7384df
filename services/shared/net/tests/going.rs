//! What a client makes of servers that go, refuse, are late or do not like to be pinged.

mod common;
#[path = "common/frames.rs"]
mod frames;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use common::{PATIENCE, call, in_time, send, until};
use frames::{
    ACK, CALM_DOWN, DATA, END_STREAM, HEADERS, NO_ERROR, PING, REFUSED_STREAM, RST_STREAM, accept, answer,
    frame, go_away, next_frame, reset, until_kind,
};
use refract_net::{Channel, DialConfig, Error, Target, dial};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::body::Body;

const MESSAGE: &[u8] = b"what was said";
const MAX_CONCURRENT_STREAMS: u16 = 3;

async fn listen(config: DialConfig) -> (TcpListener, Channel) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = DialConfig {
        ready_wait_max: PATIENCE,
        ..config
    };
    let channel = dial(&Target::from(listener.local_addr().unwrap()), config);
    (listener, channel)
}

fn say(channel: &Channel) -> JoinHandle<Result<(), Error>> {
    let channel = channel.clone();
    let message = Body::new(http_body_util::Full::new(Bytes::from_static(MESSAGE)));
    tokio::spawn(async move { send(&channel, "/say", message).await })
}

/// Reads a whole call: its stream and its message.
async fn heard(peer: &mut TcpStream) -> (u32, Vec<u8>) {
    heard_all(peer, 1).await.pop_first().expect("one")
}

/// Reads so many whole calls, however they are mixed: their streams and messages.
async fn heard_all(peer: &mut TcpStream, calls: usize) -> BTreeMap<u32, Vec<u8>> {
    let (mut messages, mut ended) = (BTreeMap::<u32, Vec<u8>>::new(), 0);
    while ended < calls {
        let part = in_time(next_frame(peer)).await.expect("the connection stands");
        if part.kind == DATA {
            messages.entry(part.stream).or_default().extend(part.payload);
            ended += usize::from(part.flags & END_STREAM != 0);
        }
    }
    messages
}

#[tokio::test]
async fn a_call_that_came_too_late_for_a_going_server_is_made_again() {
    let (listener, channel) = listen(DialConfig::default()).await;
    let saying = say(&channel);
    let mut going = accept(&listener, &[]).await;
    let (_, message) = heard(&mut going).await;
    assert_eq!(message, MESSAGE);
    going.write_all(&go_away(0, NO_ERROR)).await.unwrap();

    let mut next = accept(&listener, &[]).await;
    let (stream, message) = heard(&mut next).await;
    assert_eq!(message, MESSAGE, "whole, once more");
    answer(&mut next, stream).await;
    in_time(saying).await.unwrap().unwrap();
}

#[tokio::test]
async fn calls_that_wait_for_a_stream_when_the_server_goes_are_made_again() {
    let (listener, channel) = listen(DialConfig::default()).await;
    let first = say(&channel);
    let mut going = accept(&listener, &[(MAX_CONCURRENT_STREAMS, 1)]).await;
    let (stream, _) = heard(&mut going).await;
    let waiting = [say(&channel), say(&channel), say(&channel)];
    until(|| channel.endpoints()[0].calls == 4).await;
    // Once this is answered, the connection has taken as many of them as it would.
    going.write_all(&frame(PING, 0, 0, &[0; 8])).await.unwrap();
    assert_eq!(until_kind(&mut going, PING).await.flags, ACK);
    going.write_all(&go_away(stream, NO_ERROR)).await.unwrap();
    answer(&mut going, stream).await;
    in_time(first).await.unwrap().unwrap();

    let mut next = accept(&listener, &[]).await;
    for (stream, message) in heard_all(&mut next, waiting.len()).await {
        assert_eq!(message, MESSAGE);
        answer(&mut next, stream).await;
    }
    for waited in waiting {
        in_time(waited).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_refused_call_is_made_once_more_and_no_oftener() {
    let (listener, channel) = listen(DialConfig::default()).await;
    let saying = say(&channel);
    let mut peer = accept(&listener, &[]).await;
    let (first, _) = heard(&mut peer).await;
    peer.write_all(&reset(first, REFUSED_STREAM)).await.unwrap();
    let (second, message) = heard(&mut peer).await;
    assert_eq!(message, MESSAGE);
    answer(&mut peer, second).await;
    in_time(saying).await.unwrap().unwrap();

    let saying = say(&channel);
    for _ in 0..2 {
        let (stream, _) = heard(&mut peer).await;
        peer.write_all(&reset(stream, REFUSED_STREAM)).await.unwrap();
    }
    let error = in_time(saying).await.unwrap().unwrap_err();
    assert!(error.is_unsent(), "{error:?}");
    assert!(channel.is_ready(), "the connection stands");
}

#[tokio::test]
async fn a_call_too_long_to_be_kept_says_that_it_may_be_made_again() {
    let (listener, channel) = listen(DialConfig {
        resend_bytes_max: MESSAGE.len() - 1,
        ..DialConfig::default()
    })
    .await;
    let saying = say(&channel);
    let mut going = accept(&listener, &[]).await;
    heard(&mut going).await;
    going.write_all(&go_away(0, NO_ERROR)).await.unwrap();
    let error = in_time(saying).await.unwrap().unwrap_err();
    assert!(
        error.is_unsent() && error.to_string().contains("resend_bytes_max"),
        "{error}"
    );
}

#[tokio::test]
async fn a_call_is_not_made_again_for_a_server_that_complains() {
    let (listener, channel) = listen(DialConfig::default()).await;
    let saying = say(&channel);
    let mut peer = accept(&listener, &[]).await;
    heard(&mut peer).await;
    peer.write_all(&go_away(0, CALM_DOWN)).await.unwrap();
    let error = in_time(saying).await.unwrap().unwrap_err();
    assert!(!error.is_unsent(), "{error:?}");
}

#[tokio::test]
async fn answers_that_come_after_their_callers_have_left_cost_nobody_elses_call() {
    const CALLS: usize = 700;
    let (listener, channel) = listen(DialConfig::default()).await;
    in_time(async {
        let mut peer = None;
        // Twice, for together they are more than h2 lets pass.
        for _ in 0..2 {
            let calls: Vec<_> = (0..CALLS)
                .map(|_| {
                    let channel = channel.clone();
                    tokio::spawn(async move { call(&channel, "/late").await })
                })
                .collect();
            let peer = match &mut peer {
                Some(peer) => peer,
                none => none.insert(accept(&listener, &[]).await),
            };
            let mut streams = Vec::new();
            for _ in 0..CALLS {
                streams.push(until_kind(peer, HEADERS).await.stream);
            }
            calls.iter().for_each(JoinHandle::abort);
            for _ in 0..CALLS {
                until_kind(peer, RST_STREAM).await;
            }
            for stream in streams {
                answer(peer, stream).await;
            }
        }
        let mut peer = peer.expect("a connection");
        let patient = tokio::spawn(async move { call(&channel, "/patient").await });
        let stream = until_kind(&mut peer, HEADERS).await.stream;
        answer(&mut peer, stream).await;
        patient.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_foreign_server_is_never_pinged_and_one_of_ours_is() {
    let config = DialConfig {
        keepalive_every: Duration::from_millis(1),
        keepalive_wait_max: PATIENCE,
        ..DialConfig::default()
    };
    let (theirs, to_theirs) = listen(config.clone().foreign()).await;
    let busy = say(&to_theirs);
    let mut theirs = accept(&theirs, &[]).await;
    heard(&mut theirs).await;

    let (ours, _to_ours) = listen(config).await;
    let mut ours = accept(&ours, &[]).await;
    for _ in 0..5 {
        until_kind(&mut ours, PING).await;
    }

    busy.abort();
    drop(to_theirs);
    while let Some(frame) = in_time(next_frame(&mut theirs)).await {
        assert_ne!(frame.kind, PING);
    }
}
