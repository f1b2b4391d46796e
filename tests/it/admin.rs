//! The admin server of a worker: what it answers through the worker's life, what a client may do, and that nobody who
//! holds a connection delays a stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater::testing::{Proxy, Result, wait_until};
use highwater::{Batch, ErrorKind, HandlerError, PartialConfig, Phase, Tx, Worker, WorkerHandle};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::support::http::{ask, connect, get, until_closed};
use crate::support::sink::Fault;
use crate::support::watch::status_until;
use crate::support::{PATIENCE, Sink, TestResult, World};

fn with_admin(settings: PartialConfig) -> PartialConfig {
    let anywhere: SocketAddr = ([127, 0, 0, 1], 0).into();
    settings.admin_address(Some(anywhere))
}

/// Where it listens, as soon as it does.
async fn address(worker: &WorkerHandle) -> Result<SocketAddr> {
    let monitor = worker.monitor();
    wait_until("the admin server listens", PATIENCE, async || Ok(monitor.admin_address())).await
}

/// Waits for an answer to `/readyz`, while `/livez` says yes.
async fn ready_says(address: SocketAddr, status: u16, text: &str) -> Result<()> {
    let what = format!("/readyz says {status}, {text:?}");
    wait_until(&what, PATIENCE, async || {
        let live = get(address, "/livez").await?;
        assert_eq!((live.status, &*live.body), (200, "live\n"));
        let ready = get(address, "/readyz").await?;
        Ok((ready.status == status && ready.body.contains(text)).then_some(()))
    })
    .await
}

/// Holds its batches until they may pass.
struct Gate(Semaphore);

impl Fault for Gate {
    async fn before(&self, _: &Batch, _: &mut Tx) -> std::result::Result<(), HandlerError> {
        let _ = self.0.acquire().await;
        Ok(())
    }
}

#[tokio::test]
async fn readiness_follows_the_worker_and_liveness_asks_nobody() -> TestResult {
    let world = World::new("admin", 2).await?;
    let proxy = Proxy::before_postgres(&world.role.url).await?;
    proxy.refuse(true);
    let settings = with_admin(world.settings()).postgres_url(proxy.url(&world.role.url)?.as_str());
    let settings = settings.max_processing_time(Duration::from_secs(40));
    let gate = Arc::new(Gate(Semaphore::new(0)));
    let worker = world.worker_with(settings, Sink { fault: Arc::clone(&gate), rows_only: false });
    let address = address(&worker).await?;

    // From the start on, while there is no database.
    ready_says(address, 503, "starting").await?;
    proxy.refuse(false);
    ready_says(address, 200, "ready").await?;

    // Lag does not matter to it, nor a batch that is stuck.
    world.produce(20).await?;
    let lags = |status: &Value| -> Option<i64> {
        status["partitions"].as_array()?.iter().map(|partition| partition["lag_records"].as_i64()).sum()
    };
    let status = wait_until("the status has the lag", PATIENCE, async || {
        let answer = get(address, "/status").await?;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        let status: Value = serde_json::from_str(&answer.body).expect("it is JSON");
        Ok((lags(&status) == Some(40)).then_some(status))
    })
    .await?;
    let told = worker.status();
    assert_eq!(status["group"], world.group);
    assert_eq!(status["worker"], told.owner.expect("it has begun").to_string());
    assert_eq!(
        (&status["phase"], &status["ready"], &status["live"]),
        (&"running".into(), &true.into(), &true.into())
    );
    assert_eq!(status["processing_deadline_seconds"], 40.0, "{status}");
    assert!(status["since_commit_seconds"].is_f64(), "{status}");
    for (said, partition) in status["partitions"].as_array().expect("a list").iter().zip(&told.partitions) {
        assert_eq!(
            (&said["topic"], &said["partition"]),
            (&partition.topic.as_str().into(), &partition.partition.into())
        );
        assert_eq!(said["next_offset"], partition.next_offset.expect("it is claimed"));
        assert_eq!(said["state"], "running");
    }
    assert!(!status.to_string().contains(&world.role.url), "no address, and so no password");
    assert_eq!(get(address, "/readyz").await?.status, 200);
    let at = [("HIGHWATER_ADMIN_ADDRESS", &*address.to_string())];
    let said = world.highwater_in(&world.role.url, &at, &["probe", "ready"]).await?.ended(0);
    assert_eq!(said.stdout, "ready\n");
    gate.0.add_permits(Semaphore::MAX_PERMITS / 2);
    world.verify().await?;

    // Postgres is away.
    proxy.refuse(true);
    proxy.close();
    ready_says(address, 503, "Postgres does not answer").await?;
    let said = world.highwater_in(&world.role.url, &at, &["probe", "ready"]).await?.ended(1);
    assert!(said.stderr.starts_with("error: not ready: Postgres does not answer"), "{}", said.stderr);
    assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
    assert_eq!(world.highwater_in(&world.role.url, &at, &["probe"]).await?.ended(0).stdout, "live\n");
    proxy.refuse(false);
    ready_says(address, 200, "ready").await?;

    // While it stops, and after.
    gate.0.forget_permits(usize::MAX);
    world.produce(1).await?;
    wait_until("a batch is out", PATIENCE, async || {
        Ok(worker.status().partitions.iter().any(|partition| partition.held_bytes > 0).then_some(()))
    })
    .await?;
    let stopping = tokio::spawn(worker.stop());
    ready_says(address, 503, "stopping").await?;
    gate.0.add_permits(2);
    stopping.await??;
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    world.verify().await?;
    Ok(())
}

/// Somebody else's servers, and none: what the health check of a container says.
#[tokio::test]
async fn a_probe_is_bounded_and_says_why_not() -> TestResult {
    let probe = async |environment: &[(&str, &str)], arguments: &[&str]| -> TestResult<(i32, String)> {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_highwater"));
        let output = command.arg("probe").args(arguments).envs(environment.iter().copied()).output().await?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code().expect("it ends by itself"), String::from_utf8(said)?))
    };
    let (code, said) = probe(&[], &[]).await?;
    assert!(code == 2 && said.contains("`admin_address`") && said.contains("is off"), "{said}");

    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = silent.local_addr()?.to_string();
    let began = Instant::now();
    let (code, said) =
        probe(&[("HIGHWATER_ADMIN_ADDRESS", &address)], &["live", "--timeout", "100ms"]).await?;
    assert!(code == 1 && said.contains("has not answered in 100ms"), "{said}");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    // One that is there and says nothing is no "nobody".
    let (code, _) = probe(&[], &["--if-listening", "--address", &address, "--timeout", "100ms"]).await?;
    assert_eq!(code, 1);

    let ssh = tokio::spawn(async move {
        // The two before it have left.
        for _ in 0..3 {
            let (mut stream, _) = silent.accept().await?;
            let _ = stream.read(&mut [0; 1_024]).await?;
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
        }
        std::io::Result::Ok(())
    });
    let (code, said) = probe(&[], &["--address", &address]).await?;
    assert!(code == 1 && said.contains("does not speak HTTP"), "{said}");
    ssh.await??;
    // Nobody listens there any more.
    let (code, said) = probe(&[], &["ready", "--address", &address]).await?;
    assert!(code == 1 && said.contains("nobody listens there"), "{said}");
    let both = ["--if-listening", "--address", &address, "--address", &address];
    assert_eq!(probe(&[], &both).await?, (0, "nobody listens\n".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_client_has_limits() -> TestResult {
    let world = World::new("limits", 1).await?;
    let worker = world.worker_with(with_admin(world.settings()), Sink::<()>::default());
    let address = address(&worker).await?;

    // Reading only, and these paths.
    let answer = get(address, "/").await?;
    assert_eq!((answer.status, answer.header("cache-control")), (404, Some("no-store")));
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let request = format!(
            "{method} /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"
        );
        assert_eq!(ask(address, &request).await?.status, 405, "{method}");
    }
    let head = ask(address, "HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    assert_eq!((head.status, &*head.body), (200, ""));
    assert_eq!(head.header("x-content-type-options"), Some("nosniff"));

    // A head that is too large, one with too many headers, one that is none.
    let large = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(ask(address, &large).await?.status, 431);
    let many = format!("GET /livez HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: x\r\n".repeat(100));
    assert_eq!(ask(address, &many).await?.status, 431);
    assert_eq!(ask(address, "what is this\r\n\r\n").await?.status, 400);

    // A body that is promised and never sent holds nothing up.
    let request = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000000000\r\n\r\n";
    assert_eq!(ask(address, request).await?.status, 200);

    // Who takes all places and says nothing, or little, has them for a few seconds.
    let began = Instant::now();
    let mut silent = Vec::new();
    for n in 0..64 {
        let mut stream = connect(address).await?;
        if n % 2 == 0 {
            stream.write_all(b"GET /metrics HTT").await?;
        }
        silent.push(stream);
    }
    assert_eq!(get(address, "/livez").await?.status, 200, "it has waited for a place");
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(30), "{waited:?}");
    for mut stream in silent {
        let _ = until_closed(&mut stream).await?;
    }

    // The port is taken: the second worker does not begin.
    let taken = world.settings().admin_address(Some(address));
    let built = Worker::builder().ignore_environment().settings(taken).build(Sink::<()>::default())?;
    let error = built.run_until(std::future::pending()).await.expect_err("the port is taken");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Configuration, 2));
    let text = error.to_string();
    assert!(text.contains(&address.to_string()) && text.contains("another process listens there"), "{text}");
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_stop_waits_for_no_client() -> TestResult {
    let world = World::new("stop", 1).await?;
    let worker = world.worker_with(with_admin(world.settings()), Sink::<()>::default());
    let address = address(&worker).await?;
    status_until(&worker, "it is ready", |status| status.ready).await?;

    // One that keeps its connection, one that is in the middle of its request, one that does not read its answers.
    let mut keeps = connect(address).await?;
    keeps.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await?;
    let mut answer = [0; 12];
    keeps.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"HTTP/1.1 200");
    let mut begins = connect(address).await?;
    begins.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await?;
    let deaf = connect(address).await?;
    let many = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2_000);
    let (deaf_reads, mut deaf_writes) = deaf.into_split();
    let sends = tokio::spawn(async move { deaf_writes.write_all(many.as_bytes()).await });
    tokio::time::sleep(Duration::from_millis(300)).await;

    let mut phases = worker.subscribe();
    let stopped = tokio::spawn(worker.stop());
    phases.wait_for(|status| status.phase == Phase::Stopped).await?;
    let began = Instant::now();
    stopped.await??;
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(2), "the worker's own farewell has up to two seconds: {waited:?}");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    let _ = until_closed(&mut keeps).await?;
    let _ = until_closed(&mut begins).await?;
    drop(deaf_reads);
    sends.abort();
    Ok(())
}
