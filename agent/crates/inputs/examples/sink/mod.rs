//! Answers what a load generator sends at once and keeps nothing: how fast the generator itself can be.

#![allow(dead_code, reason = "each program uses its part")]

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const BUFFER: usize = 256 << 10;

/// What of the bytes that came is whole: how many of them, with their answer; `None` = it isn't what the generator sends.
type Answer = fn(&[u8], &mut Vec<u8>) -> Option<usize>;

/// Serves every connection until the program is interrupted.
pub async fn run(port: u16, answer: Answer) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    eprintln!("answering on port {port}, keeping nothing");
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                tokio::spawn(async move { _ = connection(stream, answer).await });
            }
            end = tokio::signal::ctrl_c() => return end,
        }
    }
}

async fn connection(mut stream: TcpStream, answer: Answer) -> io::Result<()> {
    let (mut input, mut output) = (Vec::with_capacity(BUFFER), Vec::new());
    while stream.read_buf(&mut input).await? > 0 {
        let whole = answer(&input, &mut output).ok_or(io::ErrorKind::InvalidData)?;
        input.drain(..whole);
        stream.write_all(&output).await?;
        output.clear();
    }
    Ok(())
}

/// 204 to every request with a Content-Length.
pub fn http(input: &[u8], output: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    while let Some(end) = input[at..].windows(4).take(1024).position(|four| four == b"\r\n\r\n") {
        let head = std::str::from_utf8(&input[at..at + end]).ok()?;
        let length: usize = head.rsplit_once("Content-Length: ")?.1.trim().parse().ok()?;
        let next = at + end + 4 + length;
        if next > input.len() {
            break;
        }
        at = next;
        output.extend_from_slice(b"HTTP/1.1 204 No Content\r\n\r\n");
    }
    Some(at)
}

/// CONNACK, and PUBACK to every publish of QoS 1.
pub fn mqtt(input: &[u8], output: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    while input.len() - at >= 5 {
        let (mut length, mut head) = (0, 1);
        loop {
            let byte = usize::from(*input.get(at + head)?);
            length |= (byte & 0x7f) << (7 * (head - 1));
            head += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let body = input.get(at + head..at + head + length);
        let Some(body) = body else { break };
        match input[at] >> 4 {
            // Byte 6 of CONNECT is the protocol's version; that of 5 has properties.
            1 if body.get(6) == Some(&5) => output.extend_from_slice(&[0x20, 3, 0, 0, 0]),
            1 => output.extend_from_slice(&[0x20, 2, 0, 0]),
            3 => {
                let topic = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
                output.extend_from_slice(&[0x40, 2]);
                output.extend_from_slice(body.get(2 + topic..4 + topic)?);
            }
            _ => {}
        }
        at += head + length;
    }
    Some(at)
}
