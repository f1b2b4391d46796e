//! As much of HTTP as a test needs: one request, one answer.

use std::time::Duration;

use highwater::testing::{Error, Result};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
    bytes: Vec<u8>,
}

impl Answer {
    /// A header of it.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// `GET` of `http://address/path`.
pub(crate) async fn get(address: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    request(address, "GET", path, headers, None).await
}

/// Any request. With a body it is JSON.
pub(crate) async fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Result<Answer> {
    let what = format!("{method} http://{address}{path}");
    let failed = |error| Error::caused(what.clone(), error);
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text += &format!("Host: {address}\r\n");
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        let body = body.map(ToString::to_string).unwrap_or_default();
        text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(text.as_bytes()).await?;
        let mut answer = Vec::new();
        // Chromium's driver says when its answer ends, and leaves the connection open whatever it was asked for.
        while !is_whole(&answer) && stream.read_buf(&mut answer).await? > 0 {}
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(120), exchange).await;
    let answer = answer.map_err(|_| Error::new(format!("{what}: no answer in time")))?.map_err(failed)?;
    let end = end_of_head(&answer).ok_or_else(|| Error::new(format!("{what}: an answer without a head")))?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    let mut bytes = answer[end + 4..].to_vec();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        bytes = whole(&bytes);
    }
    Ok(Answer { status, head, body: String::from_utf8_lossy(&bytes).into_owned(), bytes })
}

fn end_of_head(answer: &[u8]) -> Option<usize> {
    answer.windows(4).position(|four| four == b"\r\n\r\n")
}

/// Whether the whole of an answer is there that says how long it is.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = end_of_head(answer) else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse::<usize>().ok());
    length.is_some_and(|length| answer.len() >= end + 4 + length)
}

/// Chunks put together.
fn whole(mut chunked: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(end) = chunked.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(String::from_utf8_lossy(&chunked[..end]).trim(), 16).unwrap_or(0);
        let (from, to) = (end + 2, end + 2 + size);
        if size == 0 || to > chunked.len() {
            break;
        }
        bytes.extend_from_slice(&chunked[from..to]);
        chunked = chunked.get(to + 2..).unwrap_or_default();
    }
    bytes
}
