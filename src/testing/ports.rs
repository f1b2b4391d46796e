//! Free ports for servers that must keep theirs across a restart.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use super::error::{Error, Result};

/// Below the range from which the kernel takes the source ports of outgoing connections. A port from that range could
/// be taken while its server is down, even by a client that tries to reach the server and so connects to itself.
const RANGE: std::ops::Range<u16> = 12_000..32_000;

/// Given out by this process: a server may take seconds to listen there.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that nobody listens on, and that this process has given to nobody. Nothing holds it, so start the server soon.
pub(super) fn free_port() -> Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    (0..200)
        .map(|_| fastrand::u16(RANGE))
        .find(|&port| !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .inspect(|&port| {
            given.insert(port);
        })
        .ok_or_else(|| Error::new(format!("find a free port in {RANGE:?} on the loopback interface")))
}
