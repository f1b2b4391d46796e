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

/// One payment in a hundred, of any account.
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
        FOR EACH ROW WHEN (abs(hashtext(NEW.tx_id) % 100) = 7) EXECUTE FUNCTION public.soak_poison();";
/// Who comes before whom: what of an account is applied after a later one of it, in its partition, is counted. What is undone
/// was not applied.
const ORDER: &str = "\
    CREATE TABLE public.soak_order (account text, source_partition integer, last bigint NOT NULL, \
        late bigint NOT NULL DEFAULT 0, PRIMARY KEY (account, source_partition)); \
    CREATE FUNCTION public.soak_next() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ \
    BEGIN \
        INSERT INTO public.soak_order AS o VALUES (NEW.account, NEW.source_partition, NEW.source_offset) \
        ON CONFLICT (account, source_partition) DO UPDATE \
        SET last = excluded.last, late = o.late + (excluded.last <= o.last)::int; \
        RETURN NEW; \
    END $$; \
    CREATE TRIGGER soak_next BEFORE INSERT ON public.kept_payments FOR EACH ROW EXECUTE FUNCTION public.soak_next(); \
    CREATE FUNCTION public.soak_undone() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ \
    BEGIN \
        UPDATE public.soak_order SET last = least(last, OLD.source_offset - 1) \
        WHERE account = OLD.account AND source_partition = OLD.source_partition; \
        RETURN NULL; \
    END $$; \
    CREATE TRIGGER soak_undone AFTER DELETE ON public.kept_payments FOR EACH ROW EXECUTE FUNCTION public.soak_undone();";
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
    /// Where later ones wait behind it.
    order: Option<Order>,
}

/// Of each account's payments.
#[derive(Debug)]
struct Order {
    /// How often one was parked.
    parked: i64,
    /// How many were applied after a later one.
    late: i64,
}

impl Letters {
    /// # Errors
    /// In words, if nothing happened that this is here to see.
    pub(crate) fn seen(&self) -> Result<(), String> {
        match &self.order {
            _ if self.redriven == 0 => Err("no dead letter was redriven".to_owned()),
            Some(order) if order.parked == 0 => Err("no payment was parked".to_owned()),
            _ => Ok(()),
        }
    }

    /// Whether no payment came after a later one of its account, if that is of matter.
    pub(crate) fn in_order(&self) -> bool {
        self.order.as_ref().is_none_or(|order| order.late == 0)
    }
}

impl fmt::Display for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stored, rejections, redriven, superseded, order } = self;
        write!(
            f,
            "{stored} dead letters, rejected {rejections} times, {redriven} redriven, {superseded} superseded"
        )?;
        match order {
            Some(Order { parked, late }) => write!(f, ", parked {parked} times; {late} out of order"),
            None => Ok(()),
        }
    }
}

/// Before anything is backed up.
pub(crate) async fn prepare(servers: &Servers, park: bool) -> Result {
    if park {
        servers.database().execute(ORDER).await?;
    }
    Ok(servers.database().execute(POISON).await?)
}

/// Asks for a redrive of everything, every few seconds, until it is dropped.
pub(crate) async fn redrive(servers: &Servers, park: bool) -> Result<Infallible> {
    loop {
        tokio::time::sleep(INTERVAL).await;
        // In the middle of a fault it may fail in any way; the next one comes soon.
        let _ = tokio::time::timeout(LIMIT, ask(servers, park)).await;
    }
}

/// Mends the rules, and redrives until nothing is left.
pub(crate) async fn finish(servers: &Servers, fleet: &Fleet<'_>, park: bool) -> Result<Letters> {
    servers.database().execute(MEND).await?;
    let open = "SELECT count(*) FROM highwater.dead_letter WHERE state NOT IN ('redriven', 'superseded')";
    wait_until("every dead letter is redriven", REST, async || {
        let failed = |error| highwater::testing::Error::caused("redrive", error);
        fleet.all_well().map_err(failed)?;
        // On a busy machine it may take longer than its statements may: asked again, until the time is over.
        if let Err(error) = ask(servers, park).await {
            println!("a redrive was not asked for: {error}");
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok((servers.number(open).await.map_err(failed)? == 0).then_some(()))
    })
    .await?;
    let sql = "SELECT count(*), coalesce(sum(attempts), 0)::int8, count(*) FILTER (WHERE state = 'redriven'), \
                 count(*) FILTER (WHERE state = 'superseded') FROM highwater.dead_letter";
    let row = &servers.database().query(sql, &[]).await?[0];
    let (stored, rejections, redriven, superseded) = (row.get(0), row.get(1), row.get(2), row.get(3));
    let order = if park {
        let parked = "SELECT count(*) FROM highwater.dead_letter_attempt WHERE kind = 'park'";
        let late = "SELECT sum(late)::int8 FROM public.soak_order";
        Some(Order { parked: servers.number(parked).await?, late: servers.number(late).await? })
    } else {
        None
    };
    Ok(Letters { stored, rejections, redriven, superseded, order })
}

/// Where payments are parked their order is kept, and no leave is needed.
async fn ask(servers: &Servers, park: bool) -> Result {
    let settings = PartialConfig::default()
        .postgres_url(servers.database().url())
        .brokers(vec![servers.kafka.bootstrap().to_owned()]);
    let mut hand = Offsets::connect(&settings.finish_operator()?).await?;
    let how = Redrive::by("soak", "mended, perhaps").ignore_order(!park).stop_after(i64::MAX);
    hand.redrive(&DeadLetterFilter::new(GROUP), &how).await?;
    Ok(())
}
