//! HTTP/2 written and read by hand: for what no library would say.

#![allow(dead_code, reason = "each test file uses its part")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::in_time;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const CALM_DOWN: u32 = 11;

/// POST / http, authority "a": indices of the static table and one literal.
pub(crate) const POST: [u8; 6] = [0x83, 0x84, 0x86, 0x41, 1, b'a'];
/// Status 200.
pub(crate) const OK: [u8; 1] = [0x88];

#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// What a RST_STREAM or a GOAWAY gives as its reason.
    pub(crate) fn code(&self) -> u32 {
        let last = self.payload[if self.kind == GOAWAY { 4..8 } else { 0..4 }].try_into();
        u32::from_be_bytes(last.expect("four bytes"))
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// A GOAWAY that names the last stream which was looked at.
pub(crate) fn go_away(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// The next frame; `None` at the end of the connection.
pub(crate) async fn next_frame(peer: &mut TcpStream) -> Option<Frame> {
    let mut head = [0; 9];
    peer.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    peer.read_exact(&mut payload).await.ok()?;
    Some(Frame {
        kind: head[3],
        flags: head[4],
        stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
        payload,
    })
}

/// Accepts a client, and says what a server says first; SETTINGS as given.
pub(crate) async fn accept(listener: &TcpListener, settings: &[(u16, u32)]) -> TcpStream {
    let (mut peer, _) = in_time(listener.accept()).await.expect("a client");
    let mut preface = vec![0; PREFACE.len()];
    in_time(peer.read_exact(&mut preface)).await.expect("a preface");
    assert_eq!(preface, PREFACE);
    let settings: Vec<u8> = settings
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    let hello = [frame(SETTINGS, 0, 0, &settings), frame(SETTINGS, ACK, 0, &[])].concat();
    peer.write_all(&hello).await.expect("sent");
    peer
}

/// Reads on until a frame of this kind, and answers pings meanwhile.
pub(crate) async fn until_kind(peer: &mut TcpStream, kind: u8) -> Frame {
    let reading = async {
        loop {
            let frame = next_frame(peer).await.expect("the connection stands");
            if frame.kind == PING && frame.flags & ACK == 0 {
                let pong = self::frame(PING, ACK, 0, &frame.payload);
                peer.write_all(&pong).await.expect("sent");
            }
            if frame.kind == kind {
                return frame;
            }
        }
    };
    in_time(reading).await
}

/// Answers a call with 200 and no body.
pub(crate) async fn answer(peer: &mut TcpStream, stream: u32) {
    let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &OK);
    peer.write_all(&head).await.expect("sent");
}
