// SPDX-License-Identifier: MIT

//! Plain blocking HTTP/1.0 for the tests' own requests to a local server.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

pub fn get(url: &str) -> Result<Reply> {
    request("GET", url, &[], "")
}

/// Reads the body of a reply that does not end, until nothing comes for `silence`, or for
/// [`LIMIT`].
pub fn read_stream(url: &str, silence: Duration) -> Result<String> {
    let rest = url.strip_prefix("http://").context("an http URL")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(silence))?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let deadline = Instant::now() + LIMIT;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while Instant::now() < deadline {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let (_, body) = text.split_once("\r\n\r\n").context("an HTTP reply")?;
    Ok(body.to_owned())
}

/// Posts JSON text.
pub fn post(url: &str, body: &str) -> Result<Reply> {
    request("POST", url, &[], body)
}

pub fn request(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Result<Reply> {
    let rest = url.strip_prefix("http://").context("an http URL")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    write!(
        stream,
        "{method} /{path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
        body.len()
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        bail!("no HTTP reply");
    };
    let status = head.split(' ').nth(1).context("a status line")?.parse()?;
    Ok(Reply {
        status,
        body: body.to_owned(),
    })
}
