//! Asking a small HTTP server, byte by byte: nothing is corrected, pooled or tried again.

use std::net::SocketAddr;

use highwater::testing::{Error, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;

/// What a server has answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn read(bytes: &[u8]) -> Result<Self> {
        let text = String::from_utf8_lossy(bytes);
        let odd = || Error::new(format!("this is no answer: {text:?}"));
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(odd)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(odd)?;
        let answer = Self { status, head: head.to_owned(), body: body.to_owned() };
        if answer.header("transfer-encoding") == Some("chunked") {
            return Err(Error::new("an answer in chunks, which is not read here"));
        }
        Ok(answer)
    }
}

/// Opens a connection.
pub(crate) async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let caused = |error| Error::caused(format!("connect to {address}"), error);
    TcpStream::connect(address).await.map_err(caused)
}

/// Asks for a path, with further headers.
pub(crate) async fn get_with(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n"))
        .await
}

/// Asks for a path.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    get_with(address, path, &[]).await
}

/// Sends this, and reads until the server closes the connection.
pub(crate) async fn ask(address: SocketAddr, request: &str) -> Result<Answer> {
    let mut stream = connect(address).await?;
    let caused = |error| Error::caused(format!("ask {address}"), error);
    stream.write_all(request.as_bytes()).await.map_err(caused)?;
    Answer::read(&until_closed(&mut stream).await?)
}

/// Reads until the server closes the connection.
pub(crate) async fn until_closed(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut answer = Vec::new();
    match tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await {
        Ok(Ok(_)) => Ok(answer),
        // Cut off, with what was still to be read.
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(answer),
        Ok(Err(error)) => Err(Error::caused("read an answer", error)),
        Err(_) => Err(Error::new("the server keeps the connection")),
    }
}
