// SPDX-License-Identifier: MIT

//! Plain blocking HTTP/1.0 for the tests' own requests to a local server.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
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
