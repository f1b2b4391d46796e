//! Faults on servers and on the way to them.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use highwater::testing::Cut;
use highwater::tokio_postgres::{self, NoTls};

use super::Faults;
use crate::Result;
use crate::fleet::PATIENCE;
use crate::schedule::Fault;

impl Faults<'_> {
    /// Does it; returns what was seen.
    pub(super) async fn on_server(&self, fault: Fault) -> Result<String> {
        match fault {
            Fault::PostgresKill { down } => self.postgres_kill(down).await,
            Fault::Storm { times } => self.storm(times).await,
            Fault::Cut(cut) => self.cut(cut).await,
            Fault::HalfOpen { length } => self.half_open(length).await,
            Fault::Latency { each_way, length } => self.latency(each_way, length).await,
            Fault::KafkaKill { down } => self.kafka_kill(down).await,
            Fault::KafkaCut { down } => self.kafka_cut(down).await,
            Fault::KafkaHalfOpen { length } => self.kafka_half_open(length).await,
            Fault::Rewind { behind } => self.rewind(behind).await,
            Fault::FailOver { behind } => self.fail_over(behind).await,
            Fault::ConnectionsRefused { length } => self.connections_refused(length).await,
            Fault::LockedTable { length } => self.locked_table(length).await,
            Fault::SlowCommit { length } => self.slow_commit(length).await,
            Fault::KillerRecord { partition } => self.killer_record(partition).await,
            Fault::FirstHostDrops { length } => self.first_host_drops(length).await,
            Fault::KafkaFrozen { length } => self.kafka_frozen(length).await,
            Fault::KafkaBrokerless { length } => self.kafka_brokerless(length).await,
            Fault::OpenTransaction { length, roll_back } => self.open_transaction(length, roll_back).await,
            Fault::Pause { partition, length } => self.operator_pause(partition, length).await,
            Fault::Undo { partition, back } => self.operator_undo(partition, back).await,
            other => Err(format!("{other:?} is no fault of a server").into()),
        }
    }

    async fn postgres_kill(&self, down: Duration) -> Result<String> {
        let _alone = self.postgres.lock().await;
        let started = "SELECT extract(epoch FROM pg_postmaster_start_time())::int8";
        let postgres = self.servers.primary().postgres;
        let before = self.servers.number(started).await?;
        postgres.kill().await?;
        let gone = TcpStream::connect((postgres.host(), postgres.port())).is_err();
        tokio::time::sleep(down).await;
        postgres.restart().await?;
        let after = self.servers.number(started).await?;
        if !gone || after < before {
            return Err(format!("still reachable: {}, started at {before} and {after}", !gone).into());
        }
        Ok(format!(
            "nobody answered for {down:?}; the new server began {} s after the old one",
            after - before
        ))
    }

    async fn storm(&self, times: usize) -> Result<String> {
        let _alone = self.postgres.lock().await;
        let sql = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE datname = current_database() AND application_name LIKE 'highwater/%'";
        let mut ended = 0;
        for _ in 0..times {
            ended += self.servers.number(sql).await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        if ended == 0 {
            return Err("no backend was there to be ended".into());
        }
        Ok(format!("{ended} backends ended in {times} blows"))
    }

    async fn cut(&self, cut: Cut) -> Result<String> {
        let _untroubled = self.postgres.lock().await;
        self.servers.to_postgres.cut(cut, PATIENCE).await?;
        Ok("a connection was cut there".to_owned())
    }

    async fn half_open(&self, length: Duration) -> Result<String> {
        let _alone = self.postgres.lock().await;
        let proxy = &self.servers.to_postgres;
        let before = proxy.withheld_bytes();
        proxy.stall();
        tokio::time::sleep(length).await;
        let withheld = proxy.withheld_bytes() - before;
        proxy.resume();
        if withheld == 0 {
            return Err("nothing tried to pass".into());
        }
        Ok(format!("{withheld} bytes were withheld for up to {length:?}"))
    }

    /// Sessions end, and a new one is admitted by the first host but never answered; the second one is at their service.
    async fn first_host_drops(&self, length: Duration) -> Result<String> {
        let _alone = self.postgres.lock().await;
        let (first, second) = (&self.servers.to_postgres, &self.servers.second_host);
        let before = first.withheld_bytes();
        second.refuse(false);
        first.stall();
        first.close();
        let began = Instant::now();
        let applied = self.applied_from_now().await;
        let after = began.elapsed();
        tokio::time::sleep(length.saturating_sub(after)).await;
        let withheld = first.withheld_bytes() - before;
        second.refuse(true);
        first.resume();
        let moved = second.close();
        applied?;
        if withheld == 0 {
            return Err("nobody tried the first host".into());
        }
        Ok(format!(
            "{withheld} bytes sent to the first host were dropped; something was applied by way of the second one \
             after {after:.1?}, {moved} sessions were there in the end"
        ))
    }

    async fn latency(&self, each_way: Duration, length: Duration) -> Result<String> {
        let _untroubled = self.postgres.lock().await;
        self.servers.to_postgres.set_latency(each_way);
        let began = Instant::now();
        let (client, connection) = tokio_postgres::connect(&self.servers.worker_url, NoTls).await?;
        let connection = tokio::spawn(connection);
        let connected = Instant::now();
        let answered = client.simple_query("SELECT 1").await;
        let round_trip = connected.elapsed();
        connection.abort();
        tokio::time::sleep(length.saturating_sub(began.elapsed())).await;
        self.servers.to_postgres.set_latency(Duration::ZERO);
        answered?;
        if round_trip < 2 * each_way {
            return Err(format!("a round trip took {round_trip:?} only").into());
        }
        Ok(format!("a round trip took {round_trip:.0?}, for {length:.1?}"))
    }

    async fn kafka_kill(&self, down: Duration) -> Result<String> {
        let kafka = &self.servers.kafka;
        let before = kafka.pid();
        kafka.kill().await?;
        let gone = TcpStream::connect(kafka.bootstrap()).is_err();
        tokio::time::sleep(down).await;
        kafka.restart().await?;
        if !gone || kafka.pid() == before {
            return Err(
                format!("still reachable: {}, process {before:?} and {:?}", !gone, kafka.pid()).into()
            );
        }
        Ok(format!("broker process {before:?} was replaced by {:?}", kafka.pid()))
    }

    async fn kafka_cut(&self, down: Duration) -> Result<String> {
        let proxy = &self.servers.to_kafka;
        proxy.refuse(true);
        let closed = proxy.close();
        tokio::time::sleep(down).await;
        proxy.refuse(false);
        if closed == 0 {
            return Err("no connection was open".into());
        }
        Ok(format!("{closed} connections closed, none admitted for {down:.1?}"))
    }

    async fn kafka_half_open(&self, length: Duration) -> Result<String> {
        let proxy = &self.servers.to_kafka;
        let before = proxy.withheld_bytes();
        proxy.stall();
        tokio::time::sleep(length).await;
        let withheld = proxy.withheld_bytes() - before;
        proxy.resume();
        if withheld == 0 {
            return Err("nothing tried to pass".into());
        }
        Ok(format!("{withheld} bytes were withheld for up to {length:.1?}"))
    }
}
