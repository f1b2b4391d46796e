//! Payments that the sink's table refuses in three of four spans of ten seconds: dead letters, redriven again and again while everything
//! else goes wrong, until none is left.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use highwater::PartialConfig;
use highwater::offsets::{DeadLetterFilter, Offsets, Redrive};
use highwater::testing::wait_until;

use crate::fleet::Fleet;
use crate::servers::Servers;
use crate::{GROUP, Result};

/// One payment in a hundred, by its number.
const POISON: &str = "\
    INSERT INTO public.soak_trap (name, is_armed) VALUES ('poison', true); \
    CREATE FUNCTION public.soak_poison() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ \
    BEGIN \
        IF hashtext(NEW.tx_id || floor(extract(epoch FROM clock_timestamp()) / 10)) % 4 <> 0 AND (SELECT is_armed FROM public.soak_trap WHERE name = 'poison') THEN \
            RAISE EXCEPTION 'the rules do not like this payment' USING ERRCODE = '23514', CONSTRAINT = 'soak_poison'; \
        END IF; \
        RETURN NEW; \
    END $$; \
    CREATE TRIGGER soak_poison BEFORE INSERT ON public.fraud_scores \
        FOR EACH ROW WHEN (NEW.tx_id LIKE 'tx-%07') EXECUTE FUNCTION public.soak_poison();";
const MEND: &str = "UPDATE public.soak_trap SET is_armed = false WHERE name = 'poison'";
const INTERVAL: Duration = Duration::from_secs(5);
/// A server that is away must not hold up the next redrive.
const LIMIT: Duration = Duration::from_secs(10);
/// How long the fleet may take to apply what is left when the faults are over.
const REST: Duration = Duration::from_secs(300);

/// What has become of them.
#[derive(Debug)]
pub(crate) struct Letters {
    stored: i64,
    rejections: i64,
    redriven: i64,
    superseded: i64,
}

impl Letters {
    /// # Errors
    /// In words, if nothing happened that this is here to see.
    pub(crate) fn seen(&self) -> Result<(), String> {
        if self.redriven == 0 { Err("no dead letter was redriven".to_owned()) } else { Ok(()) }
    }
}

impl fmt::Display for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stored, rejections, redriven, superseded } = self;
        write!(
            f,
            "{stored} dead letters, rejected {rejections} times, {redriven} redriven, {superseded} superseded"
        )
    }
}

/// Before anything is backed up.
pub(crate) async fn prepare(servers: &Servers) -> Result {
    Ok(servers.database().execute(POISON).await?)
}

/// Asks for a redrive of everything, every few seconds, until it is dropped.
pub(crate) async fn redrive(servers: &Servers) -> Result<Infallible> {
    loop {
        tokio::time::sleep(INTERVAL).await;
        // In the middle of a fault it may fail in any way; the next one comes soon.
        let _ = tokio::time::timeout(LIMIT, ask(servers)).await;
    }
}

/// Mends the rules, and redrives until nothing is left.
pub(crate) async fn finish(servers: &Servers, fleet: &Fleet<'_>) -> Result<Letters> {
    servers.database().execute(MEND).await?;
    let open = "SELECT count(*) FROM highwater.dead_letter WHERE state NOT IN ('redriven', 'superseded')";
    wait_until("every dead letter is redriven", REST, async || {
        let failed = |error| highwater::testing::Error::caused("redrive", error);
        fleet.all_well().map_err(failed)?;
        ask(servers).await.map_err(failed)?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok((servers.number(open).await.map_err(failed)? == 0).then_some(()))
    })
    .await?;
    let sql = "SELECT count(*), coalesce(sum(attempts), 0)::int8, count(*) FILTER (WHERE state = 'redriven'), \
                 count(*) FILTER (WHERE state = 'superseded') FROM highwater.dead_letter";
    let row = &servers.database().query(sql, &[]).await?[0];
    Ok(Letters { stored: row.get(0), rejections: row.get(1), redriven: row.get(2), superseded: row.get(3) })
}

async fn ask(servers: &Servers) -> Result {
    let settings = PartialConfig::default()
        .postgres_url(servers.database().url())
        .brokers(vec![servers.kafka.bootstrap().to_owned()]);
    let mut hand = Offsets::connect(&settings.finish_operator()?).await?;
    let how = Redrive::by("soak", "mended, perhaps").ignore_order(true).stop_after(i64::MAX);
    hand.redrive(&DeadLetterFilter::new(GROUP), &how).await?;
    Ok(())
}
