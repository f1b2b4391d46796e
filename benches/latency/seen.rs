//! When each position was first seen, by a connection beside the writers'.

use std::time::{Duration, Instant};

use highwater::tokio_postgres::Client;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::Result;

const EVERY: Duration = Duration::from_millis(1);

/// The positions of one partition as they were first seen: until then, no record before it was visible.
type Seen = Vec<(Instant, i64)>;

/// Looks until it is told to stop.
pub(crate) struct Looker {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Vec<Seen>>>,
}

impl Looker {
    /// Begins. `sql` gives partition and next offset.
    pub(crate) async fn start(client: Client, sql: &str, partitions: usize) -> Result<Self> {
        let statement = client.prepare(sql).await?;
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut seen: Vec<Seen> = vec![Vec::new(); partitions];
            while stopped.try_recv().is_err() {
                let rows = client.query(&statement, &[]).await?;
                let now = Instant::now();
                for row in rows {
                    let partition = usize::try_from(row.get::<_, i32>(0))?;
                    let position: i64 = row.get(1);
                    let Some(seen) = seen.get_mut(partition) else { continue };
                    if seen.last().map_or(0, |(_, last)| *last) < position {
                        seen.push((now, position));
                    }
                }
                tokio::time::sleep(EVERY).await;
            }
            Ok(seen)
        });
        Ok(Self { stop, task })
    }

    /// Stops, and gives what was seen of each partition.
    pub(crate) async fn finish(self) -> Result<Vec<Seen>> {
        let _ = self.stop.send(());
        self.task.await?
    }
}

/// Milliseconds from each record's sending until its row was visible.
pub(crate) fn latencies(sent: &[Instant], seen: &Seen) -> Result<Vec<f64>> {
    let mut looks = seen.iter().peekable();
    let mut latencies = Vec::with_capacity(sent.len());
    for (offset, sent) in sent.iter().enumerate() {
        let offset = i64::try_from(offset)?;
        while looks.next_if(|(_, position)| *position <= offset).is_some() {}
        let (at, _) = looks.peek().ok_or("a record was not seen before the looking ended")?;
        latencies.push(at.saturating_duration_since(*sent).as_secs_f64() * 1e3);
    }
    Ok(latencies)
}
