//! What happens, in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use highwater::testing::wait_until;

use crate::check::{Expected, Findings, Place, check};
use crate::faults::{Faults, Seen};
use crate::fleet::{Fleet, TOLD};
use crate::moving::Slowest;
use crate::options::Options;
use crate::poison::{self, Letters};
use crate::produce::Production;
use crate::schedule::{Schedule, fingerprint, kinds};
use crate::servers::Servers;
use crate::transactions::{self, Produced};
use crate::{GROUP, PARTITIONS, Result, TOPIC, tally};

/// One payment in so many is produced in a Kafka transaction.
const IN_TRANSACTIONS: u64 = 5;
/// A run of this length has time for every kind of fault; a shorter one only says which it had not.
const LONG: Duration = Duration::from_secs(15 * 60);
/// How long the fleet may take to apply what is left when the faults are over.
const DRAIN: Duration = Duration::from_secs(300);

/// With a pipeline, whose file computes nothing: what is kept of payments is added to the balances.
const BALANCES: &str = "\
    CREATE FUNCTION public.soak_add() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ \
    BEGIN \
        INSERT INTO public.account_balances AS a (account, balance_cents, payments) \
        SELECT account, sum(cents)::int8, count(*) FROM added GROUP BY account ORDER BY account \
        ON CONFLICT (account) DO UPDATE SET balance_cents = a.balance_cents + excluded.balance_cents, \
            payments = a.payments + excluded.payments; \
        RETURN NULL; \
    END $$; \
    CREATE TRIGGER soak_add AFTER INSERT ON public.kept_payments REFERENCING NEW TABLE AS added \
        FOR EACH STATEMENT EXECUTE FUNCTION public.soak_add();";

/// Tells it all; `false` if the check found a difference, or a fault was not seen to happen.
pub(crate) async fn tell(options: &Options) -> Result<bool> {
    println!(
        "seed {}, schedule {}, {:?}, protocol {:?}; the same seed gives the same schedule",
        options.seed,
        fingerprint(options.seed, &options.only),
        options.duration,
        options.protocol,
    );
    let servers = Servers::start().await?;
    if options.poison {
        poison::prepare(&servers, options.park).await?;
    }
    if options.pipeline {
        servers.database().execute(BALANCES).await?;
    }
    let fleet = Fleet::start(&servers, options)?;
    let told = act(options, &servers, &fleet).await;
    if told.is_err() || options.verbose {
        fleet.last_words();
    }
    let Told { mut seen, moved, late, letters, findings } = told?;
    seen.in_vain.extend(letters.as_ref().and_then(|letters| letters.seen().err()));
    let drawn = |kind: &&str| options.only.is_empty() || options.only.contains(*kind);
    let never: Vec<&str> =
        kinds().into_iter().filter(drawn).filter(|kind| !seen.by_kind.contains_key(kind)).collect();
    if !never.is_empty() && options.duration >= LONG {
        seen.in_vain.push(format!("{}, in all that time", never.join(", ")));
    }
    let moved = moved.as_ref();
    let report = Report {
        options,
        seen: &seen,
        moved,
        late: &late,
        letters: letters.as_ref(),
        never: &never,
        fleet: &fleet,
        findings: &findings,
    };
    println!("\n{report}");
    let in_order = letters.as_ref().is_none_or(Letters::in_order);
    Ok(seen.in_vain.is_empty() && late.is_empty() && in_order && findings.is_exact())
}

/// What there is to report on.
struct Told {
    seen: Seen,
    /// The longest that it took a partition to move again.
    moved: Option<Slowest>,
    /// Who did not in time.
    late: Vec<String>,
    letters: Option<Letters>,
    findings: Findings,
}

async fn act(options: &Options, servers: &Servers, fleet: &Fleet<'_>) -> Result<Told> {
    fleet.shared_out().await?;
    let began = Instant::now();
    let in_transactions = options.rate / IN_TRANSACTIONS;
    println!("producing {} payments a second, {in_transactions} of them in Kafka transactions", options.rate);
    let production = Production::start(servers.kafka.bootstrap(), options.rate - in_transactions)?;
    let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let transactions =
        transactions::produce(&servers.kafka, in_transactions, Arc::clone(&stop), Arc::clone(&committed));
    fleet.at_work().await?;
    let faults = Faults::new(servers, fleet, began);
    let until = began + options.duration;
    let trouble = async {
        tokio::select! {
            done = all_faults(&faults, options, until) => done?,
            never = faults.moving.watch(servers) => match never? {},
            never = tally::show(&faults, &production, &committed, began) => match never? {},
            never = poison::redrive(servers, options.park), if options.poison => match never? {},
        }
        println!("\nno more faults: {}", tally::faults_line(&faults.seen()));
        servers.heal();
        stop.store(true, Ordering::Relaxed);
        Result::Ok(())
    };
    let (produced, ()) = tokio::try_join!(transactions, trouble)?;
    let expected = settle(servers, production.finish().await?, [produced, faults.own.take()]).await?;
    println!("no more payments: Kafka has {} for read_committed", expected.ledger.count(TOPIC));

    let behind = Instant::now();
    drain(servers, fleet).await?;
    let letters =
        if options.poison { Some(poison::finish(servers, fleet, options.park).await?) } else { None };
    println!(
        "lag is 0 on every partition, {:.1?} later; stopping the workers with SIGTERM",
        behind.elapsed()
    );
    fleet.stop().await?;
    let mut offsets = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let (_, end) = servers.kafka.watermarks(TOPIC, partition).await?;
        let mirrored = servers.kafka.committed(GROUP, TOPIC, partition).await?;
        offsets.insert(partition, (end, mirrored.map(|(offset, _)| offset)));
    }
    let place = Place { topic: TOPIC, group: GROUP };
    let findings = check(&expected, &servers.database().client().await?, place, &offsets).await?;
    Ok(Told {
        seen: faults.seen(),
        moved: faults.moving.slowest(),
        late: faults.moving.late(),
        letters,
        findings,
    })
}

/// Both sequences, until everything moves again after the last one.
async fn all_faults(faults: &Faults<'_>, options: &Options, until: Instant) -> Result {
    tokio::try_join!(
        faults.carry_out(Schedule::of_processes(options.seed, &options.only), until),
        faults.carry_out(Schedule::of_servers(options.seed, &options.only), until),
    )?;
    faults.moving.settled().await;
    Ok(())
}

/// Puts the ledgers together, and lets Kafka decide what is uncertain. What Kafka has must be what they say.
async fn settle(servers: &Servers, plain: Expected, others: [Produced; 2]) -> Result<Expected> {
    let Expected { ledger, mut balances } = plain;
    let (mut uncertain, mut rolled_back) = (BTreeMap::new(), 0);
    for mut other in others {
        for ((partition, offset), _) in other.expected.ledger.positions(TOPIC) {
            ledger.record(TOPIC, partition, offset);
        }
        for (account, (cents, payments)) in other.expected.balances {
            let balance = balances.entry(account).or_default();
            *balance = (balance.0 + cents, balance.1 + payments);
        }
        uncertain.append(&mut other.uncertain);
        rolled_back += other.rolled_back;
    }
    let records = servers.kafka.read(TOPIC).await?;
    for record in &records {
        let body = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
        if let Some(payment) = uncertain.get(&*body) {
            ledger.record(TOPIC, record.partition, record.offset);
            transactions::add(&mut balances, payment);
        }
    }
    println!("{rolled_back} payments were rolled back, {} had an unknown outcome", uncertain.len());
    if records.len() != ledger.count(TOPIC) {
        let (has, ledger) = (records.len(), ledger.count(TOPIC));
        return Err(
            format!("Kafka has {has} records, but acknowledged {ledger}: this run proves nothing").into()
        );
    }
    Ok(Expected { ledger, balances })
}

/// Waits until `next_offset` has reached the end of every partition.
async fn drain(servers: &Servers, fleet: &Fleet<'_>) -> Result {
    let drained = wait_until("everything is applied", DRAIN, async || {
        fleet.all_well().map_err(|error| highwater::testing::Error::caused("look after the fleet", error))?;
        let lag = tally::lag(servers).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(lag.is_ok_and(|lag| lag == 0).then_some(()))
    });
    if let Err(error) = drained.await {
        let sql = "SELECT partition, state, detail FROM highwater.partition_status WHERE state <> 'running'";
        for row in servers.database().query(sql, &[]).await? {
            let (partition, state, detail): (i32, String, Option<String>) =
                (row.get(0), row.get(1), row.get(2));
            println!("partition {partition} is {state}: {}", detail.unwrap_or_default());
        }
        return Err(error.into());
    }
    Ok(())
}

/// The last words.
struct Report<'a> {
    options: &'a Options,
    seen: &'a Seen,
    moved: Option<&'a Slowest>,
    late: &'a [String],
    letters: Option<&'a Letters>,
    /// Kinds of faults that a short run did not come to.
    never: &'a [&'a str],
    fleet: &'a Fleet<'a>,
    findings: &'a Findings,
}

impl std::fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "faults seen to happen: {}", tally::faults_line(self.seen))?;
        for text in &self.seen.in_vain {
            writeln!(f, "NOT SEEN TO HAPPEN: {text}")?;
        }
        for text in self.late {
            writeln!(f, "DID NOT MOVE: {text}")?;
        }
        if let Some(Slowest { partition, passed, what }) = self.moved {
            writeln!(
                f,
                "slowest to move again: partition {partition}, {:.1} s {what}",
                passed.as_secs_f64()
            )?;
        }
        if let Some(letters) = self.letters {
            writeln!(f, "{letters}")?;
        }
        if !self.never.is_empty() {
            writeln!(f, "too short a run for {}", self.never.join(", "))?;
        }
        let told: Vec<String> =
            self.fleet.told().iter().zip(TOLD).map(|(count, (what, _))| format!("{count} {what}")).collect();
        writeln!(f, "the workers told of {}", told.join(", "))?;
        writeln!(
            f,
            "for docs/guarantees.md: {}",
            tally::row(self.options, self.seen, self.moved, self.fleet.told())
        )?;
        write!(f, "{}", self.findings)
    }
}
