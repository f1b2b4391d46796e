//! The check: what Kafka acknowledged against what PostgreSQL holds.
//!
//! Needs nothing but a ledger, a connection and a group's name, so it can be pointed at any database.

use std::collections::BTreeMap;
use std::fmt;

use highwater::testing::{Ledger, Oracle, Report};
use highwater::tokio_postgres::Client;

use crate::Result;

/// Per account: the sum of the amounts in cents, and the number of payments.
pub(crate) type Balances = BTreeMap<String, (i64, i64)>;

/// What must be in the tables: from delivery reports.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) ledger: Ledger,
    pub(crate) balances: Balances,
}

/// Where to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) topic: &'a str,
    pub(crate) group: &'a str,
}

/// A line of the table.
#[derive(Debug, Default)]
struct Line {
    produced: usize,
    rows: usize,
    missing: usize,
    duplicates: usize,
    /// One more than the offset of the last record: the log's end, unless that is the mark of a Kafka transaction.
    last: i64,
    /// One more than the highest `source_offset` of a row; 0 without rows.
    highest: i64,
    next_offset: Option<i64>,
    mirrored: Option<i64>,
    end: i64,
}

/// What was found. `Display` gives the table and, last, `missing N, duplicates M`.
#[derive(Debug)]
pub(crate) struct Findings {
    lines: BTreeMap<i32, Line>,
    report: Report,
    accounts: usize,
    balance_cents: i64,
    different_balances: usize,
    claims: i64,
    /// What is wrong, in words.
    pub(crate) problems: Vec<String>,
}

impl Findings {
    /// Whether everything is as it must be.
    pub(crate) fn is_exact(&self) -> bool {
        self.problems.is_empty() && self.report.is_exact()
    }
}

/// Compares. `offsets`: per partition, the end of the log and what the group has committed in Kafka.
pub(crate) async fn check(
    expected: &Expected,
    owner: &Client,
    place: Place<'_>,
    offsets: &BTreeMap<i32, (i64, Option<i64>)>,
) -> Result<Findings> {
    let rows = "SELECT source_partition, source_offset FROM fraud_scores";
    let report = Oracle::new(&expected.ledger, place.topic).compare(owner, rows).await?;
    let mut findings = Findings {
        lines: BTreeMap::new(),
        report,
        accounts: expected.balances.len(),
        balance_cents: expected.balances.values().map(|balance| balance.0).sum(),
        different_balances: 0,
        claims: 0,
        problems: Vec::new(),
    };
    findings.records(expected, place);
    for (&partition, &(end, mirrored)) in offsets {
        let line = findings.lines.entry(partition).or_default();
        (line.end, line.mirrored) = (end, mirrored);
    }
    findings.offsets(owner, place).await?;
    findings.balances(expected, owner).await?;
    findings.coverage(owner, place).await?;
    Ok(findings)
}

impl Findings {
    fn records(&mut self, expected: &Expected, place: Place<'_>) {
        for (&(partition, offset), &count) in &expected.ledger.positions(place.topic) {
            let line = self.lines.entry(partition).or_default();
            line.produced += count;
            line.last = line.last.max(offset + 1);
        }
        for (partition, _) in &self.report.missing {
            self.lines.entry(*partition).or_default().missing += 1;
        }
        for (partition, _) in &self.report.duplicates {
            self.lines.entry(*partition).or_default().duplicates += 1;
        }
        if let Some((partition, offset)) = self.report.unexpected.first() {
            self.problems.push(format!(
                "{} rows belong to no record, the first to partition {partition} offset {offset}",
                self.report.unexpected.len()
            ));
        }
    }

    /// Rows, `next_offset` and Kafka's copy must all end where the log does; rows, where its last record does.
    async fn offsets(&mut self, owner: &Client, place: Place<'_>) -> Result {
        let rows = "SELECT source_partition, count(*), max(source_offset) + 1 FROM fraud_scores GROUP BY 1";
        for row in owner.query(rows, &[]).await? {
            let line = self.lines.entry(row.get(0)).or_default();
            line.rows = usize::try_from(row.get::<_, i64>(1))?;
            line.highest = row.get(2);
        }
        let stored =
            "SELECT partition, next_offset FROM highwater.consumer_offset WHERE group_id = $1 AND topic = $2";
        for row in owner.query(stored, &[&place.group, &place.topic]).await? {
            self.lines.entry(row.get(0)).or_default().next_offset = Some(row.get(1));
        }
        for (partition, line) in &self.lines {
            for (name, offset, end) in [
                ("max(source_offset)+1", Some(line.highest), line.last),
                ("next_offset", line.next_offset, line.end),
                ("Kafka's mirrored offset", line.mirrored, line.end),
            ] {
                if offset != Some(end) {
                    let offset = shown(offset);
                    let problem =
                        format!("partition {partition}: {name} is {offset}, but the log ends at {end}");
                    self.problems.push(problem);
                }
            }
        }
        Ok(())
    }

    async fn balances(&mut self, expected: &Expected, owner: &Client) -> Result {
        let rows = owner.query("SELECT account, balance_cents, payments FROM account_balances", &[]).await?;
        let found: Balances = rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
        let accounts =
            expected.balances.keys().chain(found.keys().filter(|key| !expected.balances.contains_key(*key)));
        let different: Vec<&String> =
            accounts.filter(|account| expected.balances.get(*account) != found.get(*account)).collect();
        self.different_balances = different.len();
        if let Some(account) = different.first() {
            self.problems.push(format!(
                "{} balances differ, the first of {account}: {:?} instead of {:?} (cents, payments)",
                different.len(),
                found.get(*account),
                expected.balances.get(*account),
            ));
        }
        Ok(())
    }

    /// Every offset was covered by one claim: each begins where the one before it ended, or where an operator moved it to.
    async fn coverage(&mut self, owner: &Client, place: Place<'_>) -> Result {
        let sql = "
            WITH claims AS (
                SELECT partition, epoch, claimed_offset, end_offset FROM highwater.claim_history
                WHERE group_id = $1 AND topic = $2
                UNION ALL
                SELECT partition, epoch, claimed_offset, next_offset FROM highwater.consumer_offset
                WHERE group_id = $1 AND topic = $2 AND claimed_at IS NOT NULL)
            SELECT count(*), count(*) FILTER (WHERE claimed_offset <> begins_at AND NOT EXISTS (
                SELECT FROM highwater.offset_event e WHERE e.group_id = $1 AND e.topic = $2 AND e.partition = c.partition
                  AND e.kind IN ('reset', 'undo') AND e.to_offset = claimed_offset AND e.from_offset <= begins_at))
            FROM (SELECT partition, claimed_offset,
                         coalesce(lag(end_offset) OVER (PARTITION BY partition ORDER BY epoch), 0) AS begins_at
                  FROM claims) AS c";
        let row = owner.query_one(sql, &[&place.group, &place.topic]).await?;
        let gaps: i64 = row.get(1);
        self.claims = row.get(0);
        if gaps > 0 {
            self.problems.push(format!("{gaps} claims do not begin where the one before them ended"));
        }
        Ok(())
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>9} {:>9} {:>9} {:>8} {:>10} {:>20} {:>12} {:>9}",
            "partition",
            "produced",
            "rows",
            "missing",
            "duplicates",
            "max(source_offset)+1",
            "next_offset",
            "mirrored"
        )?;
        for (partition, line) in &self.lines {
            writeln!(
                f,
                "{partition:>9} {:>9} {:>9} {:>8} {:>10} {:>20} {:>12} {:>9}",
                line.produced,
                line.rows,
                line.missing,
                line.duplicates,
                line.highest,
                shown(line.next_offset),
                shown(line.mirrored),
            )?;
        }
        writeln!(
            f,
            "balances: {} accounts, {}.{:02} EUR in all, {} differ; claims: {}",
            self.accounts,
            self.balance_cents / 100,
            self.balance_cents % 100,
            self.different_balances,
            self.claims
        )?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "WRONG: {problem}"))?;
        write!(f, "missing {}, duplicates {}", self.report.missing.len(), self.report.duplicates.len())
    }
}

fn shown(offset: Option<i64>) -> String {
    offset.map_or_else(|| "none".to_owned(), |offset| offset.to_string())
}
