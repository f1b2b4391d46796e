//! A broker behind proxies.

use super::Kafka;
use crate::testing::{
    backend::Backend,
    container,
    error::Result,
    ports::free_port,
    proxy::{Protocol, Proxy},
};

impl Kafka {
    /// As [`Kafka::start`], with `count` ways in beside the direct one, each through a [`Proxy`] of its own.
    ///
    /// Whoever bootstraps at a proxy's address stays behind it: the broker has a listener for each, which tells its
    /// clients the proxy's address.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_behind(count: usize) -> Result<(Self, Vec<Proxy>)> {
        let backend = Backend::current_for_own().await?;
        let listen = match backend {
            Backend::Containers => container::listen_host(),
            _ => "127.0.0.1",
        };
        let (port, controller_port) = (free_port()?, free_port()?);
        let mut listeners = format!("PLAINTEXT://{listen}:{port},CONTROLLER://127.0.0.1:{controller_port}");
        let mut advertised = format!("PLAINTEXT://127.0.0.1:{port}");
        let mut protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
        let mut proxies = Vec::with_capacity(count);
        for number in 0..count {
            let inner = free_port()?;
            let proxy = Proxy::start("127.0.0.1:0", format!("127.0.0.1:{inner}"), Protocol::Kafka).await?;
            listeners.push_str(&format!(",BEHIND{number}://{listen}:{inner}"));
            advertised.push_str(&format!(",BEHIND{number}://{}", proxy.address()));
            protocols.push_str(&format!(",BEHIND{number}:PLAINTEXT"));
            proxies.push(proxy);
        }
        let own = [
            ("listeners", listeners.as_str()),
            ("advertised.listeners", advertised.as_str()),
            ("listener.security.protocol.map", protocols.as_str()),
        ];
        Ok((Self::launch_at(backend, (port, controller_port), &own).await?, proxies))
    }
}
