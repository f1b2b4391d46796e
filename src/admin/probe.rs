//! Asking a server of ours how it is, as a container's health check does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::PartialConfig;
use crate::error::{Error, ErrorKind, Result};

/// Of an answer: ours have some hundred bytes.
const ANSWER_BYTES: u64 = 16 * 1024;

/// Which question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Probe {
    /// `/livez`: is a restart the only thing that helps?
    #[default]
    Live,
    /// `/readyz`: does it do its work?
    Ready,
}

impl Probe {
    fn path(self) -> &'static str {
        match self {
            Self::Live => "/livez",
            Self::Ready => "/readyz",
        }
    }
}

/// Where the server of a worker with this environment is: the setting `admin_address`.
///
/// # Errors
/// If it is off, or a setting cannot be read.
pub fn configured_address() -> Result<SocketAddr> {
    PartialConfig::from_env()?.given_admin_address().ok_or_else(|| {
        Error::configuration(
            "there is nobody to ask: `admin_address` (environment variable `HIGHWATER_ADMIN_ADDRESS`) is off",
        )
    })
}

/// Asks the server at `address` once; that of "all addresses" is asked on this machine. Gives its answer, one line.
///
/// For the health check of an image in which there is nothing but the worker:
///
/// ```no_run
/// # async fn main_() -> highwater::Result<()> {
/// use std::time::Duration;
/// use highwater::admin::{Probe, configured_address, probe};
///
/// if std::env::args().nth(1).as_deref() == Some("probe") {
///     println!("{}", probe(configured_address()?, Probe::Live, Duration::from_secs(2)).await?);
///     return Ok(());
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Difference`](ErrorKind::Difference) where the answer is no, or there is none within `limit`.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn probe(address: SocketAddr, what: Probe, limit: Duration) -> Result<String> {
    ask(address, what, limit).await.map_err(|(_, error)| error)
}

/// As [`probe`], where `Ok(None)` means that nobody listens there.
///
/// # Errors
/// As [`probe`].
pub async fn probe_if_listening(address: SocketAddr, what: Probe, limit: Duration) -> Result<Option<String>> {
    match ask(address, what, limit).await {
        Ok(line) => Ok(Some(line)),
        Err((true, _)) => Ok(None),
        Err((false, error)) => Err(error),
    }
}

/// The error comes with whether nobody listens.
async fn ask(
    address: SocketAddr,
    what: Probe,
    limit: Duration,
) -> std::result::Result<String, (bool, Error)> {
    let reached = nearest(address);
    let no = |why: String| Error::new(ErrorKind::Difference, why);
    let answered = match tokio::time::timeout(limit, exchange(reached, what.path())).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(error)) => {
            let nobody = error.kind() == std::io::ErrorKind::ConnectionRefused;
            let why = if nobody { "nobody listens there".to_owned() } else { error.to_string() };
            return Err((nobody, no(format!("could not ask {reached}{}: {why}", what.path()))));
        }
        Err(_) => {
            return Err((false, no(format!("{reached}{} has not answered in {limit:?}", what.path()))));
        }
    };
    match read(&answered) {
        Some((200, line)) => Ok(line),
        Some((503, line)) => Err((false, no(line))),
        Some((status, _)) => {
            Err((false, no(format!("{reached}{} answers {status}: it is no server of ours", what.path()))))
        }
        None => Err((false, no(format!("{reached} does not speak HTTP: it is no server of ours")))),
    }
}

/// Where an address that means all of them is reached.
fn nearest(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn exchange(address: SocketAddr, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Status, and the first line of the body. Whoever it was that answered: what cannot be shown is left out.
pub(crate) fn read(answer: &[u8]) -> Option<(u16, String)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut words = head.lines().next()?.split(' ');
    let is_http = words.next()?.starts_with("HTTP/1.");
    let status = words.next()?.parse().ok().filter(|_| is_http)?;
    let body = String::from_utf8_lossy(&answer[end + 4..]);
    let line = body.lines().next().unwrap_or_default();
    Some((status, line.chars().filter(|c| !c.is_control()).take(500).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_status_and_a_line() {
        let read = |text: &str| read(text.as_bytes());
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\nlive\n"), Some((200, "live".to_owned())));
        let long = format!("HTTP/1.1 503 No\r\nx: y\r\n\r\nnot ready: \u{1b}[31m{}\nmore", "x".repeat(1_000));
        let (status, line) = read(&long).unwrap();
        assert!(status == 503 && line.len() == 500 && line.starts_with("not ready: [31mx"), "{line}");
        for odd in
            ["", "SSH-2.0-x\r\n\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 x y\r\n\r\n"]
        {
            assert_eq!(read(odd), None, "{odd}");
        }
    }

    #[test]
    fn all_addresses_are_reached_on_this_machine() {
        for (given, reached) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("10.0.0.7:9464", "10.0.0.7:9464"),
        ] {
            assert_eq!(nearest(given.parse().unwrap()), reached.parse().unwrap());
        }
    }

    crate::fuzz::fuzz!(
        any_answer_is_a_line_or_none,
        &[
            "HTTP/1.1 ",
            "200",
            "503",
            " OK",
            "\r\n",
            "\r\n\r\n",
            "live\n",
            "not ready: ",
            "\u{1b}[31m",
            "\0",
            " "
        ],
        |bytes| {
            if let Some((_, line)) = read(bytes) {
                assert!(line.chars().count() <= 500 && !line.contains(char::is_control), "{line:?}");
            }
        }
    );
}
