//! The admin server of a worker, where the program is built with one.

use super::Worker;
use crate::error::Result;

#[cfg(feature = "admin")]
use crate::admin::server::Listening;

/// Opens the admin server's port, where there is to be one.
#[cfg(feature = "admin")]
pub(super) async fn open(worker: &Worker) -> Result<Option<Listening>> {
    match worker.config.admin_address {
        Some(address) => Listening::open(address).await.map(Some),
        None => Ok(None),
    }
}

/// Refuses to go without, where there is to be one.
#[cfg(not(feature = "admin"))]
pub(super) async fn open(worker: &Worker) -> Result<Option<Listening>> {
    match worker.config.admin_address {
        Some(address) => Err(crate::Error::configuration(format!(
            "setting `admin_address` is {address}, but this program was built without the admin server: build it with \
             highwater's feature `admin`, or leave the setting out"
        ))),
        None => Ok(None),
    }
}

/// There is none.
#[cfg(not(feature = "admin"))]
pub(super) enum Listening {}

#[cfg(not(feature = "admin"))]
impl Listening {
    pub(super) fn address(&self) -> std::net::SocketAddr {
        match *self {}
    }

    pub(super) fn serve(self, _: super::Monitor) -> Serving {
        match self {}
    }
}

/// There is none.
#[cfg(not(feature = "admin"))]
pub(super) enum Serving {}

#[cfg(not(feature = "admin"))]
impl Serving {
    pub(super) async fn end(self) {
        match self {}
    }
}
