//! Tables that are named by topics, each seen to by itself: a topic that cannot be learned, compiled or fitted is left out, and
//! its partitions halt with the reason; the others go on, also while it is looked at.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::evolve::{Evolution, Job};
use super::file::{Evolve, SinkEntry};
use super::learn::{self, Growth, Learned};
use super::named::Template;
use super::sink::Sink;
use super::{Made, Pipeline};
use crate::PartialConfig;
use crate::error::{Error, Result};

/// Between two questions for a topic whose schema nobody knows yet.
const AGAIN: Duration = Duration::from_secs(1);
/// Tables of new topics that are seen to side by side.
const AT_ONCE: usize = 8;
/// Once something else is ready, how long the next of them may take.
const GRACE: Duration = Duration::from_secs(2);

/// A sink of the file, topics of it that have one table, and what that is wanted to be.
type Sight = (usize, Vec<String>, Job);

/// As [`learn::learn`], of the topics of a table one by one.
pub(super) async fn learn(template: &mut Template, entry: &SinkEntry, sink: &Sink, learned: &mut Learned) {
    for topic in &entry.topic.0 {
        let one = std::slice::from_ref(topic);
        match learn::learn(entry, sink, one, false, learned).await {
            Ok(true) => {}
            Ok(false) => {
                let why = "the schema registry does not know the schema of its values yet";
                template.put_off(topic, why.to_owned());
            }
            Err(error) => template.leave_out(topic, error.to_string()),
        }
    }
}

impl Pipeline {
    pub(super) fn is_named_by_topics(&self, made: &Made) -> bool {
        self.templates.iter().any(|template| template.is_of(made.at))
    }

    /// Topics of templates, each with the sink of the file, and why they get no table.
    pub(super) fn leave_out(&mut self, left: Vec<(usize, Vec<String>, String)>) {
        if left.is_empty() {
            return;
        }
        let mut templates = self.templates.to_vec();
        for (at, topics, why) in left {
            if let Some(template) = templates.iter_mut().find(|template| template.is_of(at)) {
                topics.iter().for_each(|topic| template.leave_out(topic, why.clone()));
            }
        }
        self.make_of(templates);
    }

    fn final_reasons(&self) -> Vec<String> {
        let left = self.templates.iter().flat_map(Template::all_left).filter(|left| left.is_final);
        left.map(|left| left.why.clone()).collect()
    }

    /// Of a file whose topics are written out.
    pub(super) fn nothing_left_out(&self) -> Result<()> {
        self.final_reasons().into_iter().next().map_or(Ok(()), |why| Err(Error::configuration(why)))
    }

    /// A process that could do nothing ends, and says why.
    pub(super) fn something_is_left(&self) -> Result<()> {
        if self.sinks.is_empty() { self.nothing_left_out() } else { Ok(()) }
    }

    /// Tables that are named by topics, of topics of which `concerns` says so.
    fn sights(&self, concerns: impl Fn(&str) -> bool) -> Vec<Sight> {
        let mut sights = Vec::new();
        for (made, sink) in self.entries.iter().zip(&*self.sinks) {
            if self.is_named_by_topics(made) && made.entry.topic.0.iter().any(|topic| concerns(topic)) {
                // Where nothing is to be done about it, it is looked at all the same: at the first batch one that is missing
                // would halt the others, too.
                let evolve = match sink.job.evolve {
                    Evolve::None => Evolve::Validate,
                    other => other,
                };
                let topics = sink.topics.iter().filter(|topic| concerns(topic)).cloned().collect();
                sights.push((made.at, topics, Job { evolve, ..sink.job.clone() }));
            }
        }
        sights
    }

    fn evolution(&self, settings: &PartialConfig) -> Result<Evolution> {
        let config = self.settings(settings.clone())?.finish()?;
        Evolution::new(&config, Arc::clone(&self.missing))
    }

    /// Makes the tables that are named by topics fit, one after the other.
    pub(super) async fn fit_each(&mut self, settings: &PartialConfig) -> Result<()> {
        let sights = self.sights(|_| true);
        if sights.is_empty() {
            return Ok(());
        }
        let evolution = self.evolution(settings)?;
        let all: Vec<Job> = sights.iter().map(|(.., job)| job.clone()).collect();
        if evolution.fit(&all).await.is_ok() {
            return Ok(());
        }
        let mut left = Vec::new();
        for (at, topics, job) in sights {
            if let Err(error) = evolution.fit(&[job]).await {
                left.push((at, topics, error.report()));
            }
        }
        self.leave_out(left);
        self.compile()
    }

    /// The same of topics that are new, side by side: what waits for the lock of one table holds up none of the others, nor
    /// what has grown. The answer is which topics are put off for that.
    async fn fit_newcomers(
        &mut self,
        settings: &PartialConfig,
        growth: &Growth,
        concerns: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>> {
        let sights = self.sights(concerns);
        if sights.is_empty() {
            return Ok(Vec::new());
        }
        let evolution = self.evolution(settings)?;
        let mut ends: Vec<Option<Result<()>>> = sights.iter().map(|_| None).collect();
        let fits = sights.iter().enumerate().map(|(place, (.., job))| {
            let evolution = &evolution;
            async move { (place, evolution.fit(std::slice::from_ref(job)).await) }
        });
        let mut fits = Box::pin(futures_util::stream::iter(fits).buffer_unordered(AT_ONCE));
        let mut is_awaited = growth.is_due();
        loop {
            tokio::select! {
                biased;
                ended = fits.next() => {
                    let Some((place, fitted)) = ended else { break };
                    is_awaited |= fitted.is_ok();
                    ends[place] = Some(fitted);
                }
                () = growth.notify.notified(), if !is_awaited => {
                    // It is for who comes after this.
                    growth.notify.notify_one();
                    is_awaited = true;
                }
                () = tokio::time::sleep(GRACE), if is_awaited => break,
            }
        }
        drop(fits);
        let (mut left, mut put_off) = (Vec::new(), Vec::new());
        for ((at, topics, _), end) in sights.into_iter().zip(ends) {
            match end {
                Some(Ok(())) => {}
                Some(Err(error)) => left.push((at, topics, error.report())),
                None => put_off.extend(topics),
            }
        }
        self.leave_out(left);
        let mut templates = self.templates.to_vec();
        for topic in &put_off {
            let taking = templates.iter_mut().filter(|template| template.takes(topic));
            taking.for_each(|template| template.put_off(topic, "its table is still seen to".to_owned()));
        }
        self.make_of(templates);
        self.compile()?;
        Ok(put_off)
    }

    /// Until a worker is to begin anew: there are new columns, or a topic is new, and its table can be written. Meanwhile the
    /// worker runs. What is told within the pause goes together.
    pub(super) async fn grown(
        &mut self,
        settings: &PartialConfig,
        growth: &Arc<Growth>,
        pause: Duration,
    ) -> Result<()> {
        let mut waits = false;
        loop {
            tokio::select! {
                () = growth.notify.notified() => tokio::time::sleep(pause).await,
                () = tokio::time::sleep(AGAIN), if waits => {}
            }
            let newcomers = growth.newcomers();
            let mut templates = self.templates.to_vec();
            for template in &mut templates {
                newcomers.iter().for_each(|(topic, _)| template.admit(topic));
            }
            self.make_of(templates);
            self.growth = Arc::clone(growth);
            self.grow();
            self.compile()?;
            self.learn_of(false).await?;
            let is_new = |topic: &str| newcomers.iter().any(|(new, _)| new == topic);
            let put_off = self.fit_newcomers(settings, growth, is_new).await?;
            waits = !put_off.is_empty();
            let mut is_ready = growth.is_due();
            for (topic, since) in &newcomers {
                let left = self.templates.iter().find_map(|template| template.left(topic)).cloned();
                match left {
                    None => {
                        tracing::info!(topic, "a topic is new: the worker begins anew, with its table");
                        is_ready = true;
                    }
                    // For a lock it waits as long as it takes.
                    Some(left) if !left.is_final && put_off.contains(topic) => {}
                    Some(left) if left.is_final => growth.refuse(topic, left.why),
                    Some(left) => {
                        let patience = self.registry.as_ref().map_or(AGAIN, |schemas| schemas.patience());
                        if since.elapsed() < patience {
                            waits = true;
                            continue;
                        }
                        let why = format!("{}, and has not for {patience:?} (`schema_wait`)", left.why);
                        self.leave_out_topic(topic, &why);
                        growth.refuse(topic, why);
                    }
                }
            }
            if is_ready {
                // What has been told meanwhile goes together with it.
                self.growth = Arc::clone(growth);
                self.grow();
                self.compile()?;
                return Ok(());
            }
        }
    }

    fn leave_out_topic(&mut self, topic: &str, why: &str) {
        let mut templates = self.templates.to_vec();
        let taking = templates.iter_mut().filter(|template| template.takes(topic));
        taking.for_each(|template| template.leave_out(topic, why.to_owned()));
        self.make_of(templates);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::pipeline::path;
    use crate::pipeline::registry::tests::serve;
    use crate::pipeline::shape::Field;
    use crate::pipeline::wire::SchemaId;
    use crate::testing::Postgres;

    fn answer(path: &str) -> (u16, &'static str) {
        let record = r#"{"schema":"{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"id\",\"type\":\"long\"}]}"}"#;
        match path {
            "/subjects/s.good-value/versions/latest" | "/subjects/s.lost-value/versions/latest" => {
                (200, record)
            }
            "/subjects/s.text-value/versions/latest" => (200, r#"{"schema":"\"string\""}"#),
            "/subjects/s.wide-value/versions/latest" => (
                200,
                r#"{"schema":"{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"id\",\"type\":\"long\"},{\"name\":\"n\",\"type\":\"long\"}]}"}"#,
            ),
            "/subjects/s.other-value/versions/latest" => (
                200,
                r#"{"schema":"{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"n\",\"type\":\"long\"}]}"}"#,
            ),
            _ => (404, r#"{"error_code":40401}"#),
        }
    }

    fn pipeline(evolve: &str) -> Pipeline {
        let text = format!(
            "group = \"g\"\nbrokers = [\"localhost:1\"]\nregistry.url = \"{}\"\n[[sink]]\ntopic = '^s\\..*'\n\
             table = \"shop.{{topic[1]}}\"\nvalue = \"avro\"\nmode = \"upsert\"\nkey = [\"id\"]\nevolve = \"{evolve}\"\n",
            serve(answer)
        );
        Pipeline::parse(&text, Path::new("shop.toml")).unwrap()
    }

    fn tables(pipeline: &Pipeline) -> Vec<&str> {
        assert_eq!(pipeline.entries.len(), pipeline.sinks.len());
        pipeline.sinks.iter().map(|sink| sink.table.name.as_str()).collect()
    }

    fn why(pipeline: &Pipeline, topic: &str) -> (bool, String) {
        let template = &pipeline.templates[0];
        assert!(template.is_new(topic), "{topic}");
        let left = template.left(topic).unwrap();
        (left.is_final, left.why.clone())
    }

    const TOPICS: [&str; 4] = ["s.good", "s.empty", "s.text", "s.other"];

    /// Without a schema, with one that is no record, with one that lacks the key's column.
    #[tokio::test]
    async fn a_topic_that_cannot_be_learned_is_left_out_alone() {
        let mut pipeline = pipeline("none");
        pipeline.expand(&TOPICS.map(str::to_owned));
        pipeline.compile().unwrap();
        // And nobody waits for a schema that may come.
        tokio::time::timeout(Duration::from_secs(20), pipeline.learn()).await.unwrap().unwrap();
        assert_eq!(tables(&pipeline), ["shop.good"]);
        let (is_final, text) = why(&pipeline, "s.empty");
        assert!(!is_final && text.contains("does not know"), "{text}");
        let (is_final, text) = why(&pipeline, "s.text");
        assert!(is_final && text.contains("no record with fields"), "{text}");
        let (is_final, text) = why(&pipeline, "s.other");
        assert!(is_final && text.contains("`key` names id"), "{text}");
        pipeline.something_is_left().unwrap();
        pipeline.expand(&["s.text".to_owned()]);
        pipeline.compile().unwrap();
        pipeline.learn().await.unwrap();
        assert!(pipeline.something_is_left().unwrap_err().to_string().contains("no record with fields"));
    }

    /// A missing table, where none is made; and while a worker runs, of which nothing is stopped.
    #[tokio::test]
    async fn a_topic_whose_table_does_not_fit_is_left_out_alone() {
        let database = Postgres::shared().await.unwrap().fresh_database("named").await.unwrap();
        database.execute("CREATE SCHEMA shop; CREATE TABLE shop.good (id bigint PRIMARY KEY)").await.unwrap();
        let settings = PartialConfig::default().postgres_url(database.url());
        for evolve in ["none", "validate", "print"] {
            let mut pipeline = pipeline(evolve);
            pipeline.expand(&["s.good", "s.lost"].map(str::to_owned));
            pipeline.compile().unwrap();
            pipeline.learn().await.unwrap();
            assert_eq!(tables(&pipeline), ["shop.good", "shop.lost"]);
            pipeline.fit_each(&settings).await.unwrap();
            assert_eq!(tables(&pipeline), ["shop.good"], "{evolve}");
            assert!(why(&pipeline, "s.lost").1.contains("shop"), "{evolve}");
        }
        let mut pipeline = pipeline("none");
        pipeline.expand(&["s.good".to_owned()]);
        pipeline.compile().unwrap();
        pipeline.learn().await.unwrap();
        let growth = Arc::new(Growth::heeded());
        for topic in ["s.lost", "s.text", "s.other"] {
            growth.note_topic(topic, "t");
        }
        let pause = Duration::ZERO;
        let told = async {
            while !growth.newcomers().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            ended = pipeline.grown(&settings, &growth, pause) => panic!("nothing has grown: {ended:?}"),
            () = told => {}
            () = tokio::time::sleep(Duration::from_secs(30)) => panic!("nothing is told"),
        }
        assert_eq!(tables(&pipeline), ["shop.good"]);
        assert!(growth.refusal("s.lost").unwrap().contains("no such table"));
        assert!(growth.refusal("s.text").unwrap().contains("no record with fields"));
        assert!(growth.refusal("s.other").unwrap().contains("`key` names id"));
        // One that comes and fits: the worker is to begin anew.
        database.execute("CREATE TABLE shop.lost (id bigint PRIMARY KEY)").await.unwrap();
        let growth = Arc::new(Growth::heeded());
        growth.note_topic("s.lost", "t");
        let grown = pipeline.grown(&settings, &growth, pause);
        tokio::time::timeout(Duration::from_secs(30), grown).await.unwrap().unwrap();
        assert_eq!(tables(&pipeline), ["shop.good", "shop.lost"]);
    }

    /// Whoever has no lock waits for it alone: another new table is written meanwhile, and columns are made of what another
    /// has come to have.
    #[tokio::test]
    async fn a_new_topic_whose_table_is_locked_holds_up_no_other() {
        let database = Postgres::shared().await.unwrap().fresh_database("locked").await.unwrap();
        let sql = "CREATE SCHEMA shop; CREATE TABLE shop.good (id bigint PRIMARY KEY); \
                   CREATE TABLE shop.lost (id bigint PRIMARY KEY); CREATE TABLE shop.wide (id bigint PRIMARY KEY)";
        database.execute(sql).await.unwrap();
        let settings = PartialConfig::default().postgres_url(database.url());
        let (holder, connection) =
            tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        holder.batch_execute("BEGIN; SELECT FROM shop.wide").await.unwrap();
        let waits_for_lock = async || {
            let sql = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'shop.wide'::regclass \
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
            while database.query(sql, &[]).await.unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let made = || async {
            let mut pipeline = pipeline("add_columns");
            pipeline.expand(&["s.good".to_owned()]);
            pipeline.compile().unwrap();
            pipeline.learn().await.unwrap();
            let growth = Arc::new(Growth::heeded());
            growth.note_topic("s.wide", "t");
            (pipeline, growth)
        };
        let limit = Duration::from_secs(60);
        // Another topic is new.
        let (mut pipeline, growth) = made().await;
        let more = async {
            waits_for_lock().await;
            growth.note_topic("s.lost", "t");
        };
        let grown = pipeline.grown(&settings, &growth, Duration::ZERO);
        let (grown, ()) = tokio::time::timeout(limit, async { tokio::join!(grown, more) }).await.unwrap();
        grown.unwrap();
        assert_eq!(tables(&pipeline), ["shop.good", "shop.lost"]);
        // It is seen to again when its next record comes.
        assert!(pipeline.templates[0].is_new("s.wide") && growth.refusal("s.wide").is_none());
        // A table gets columns.
        let (mut pipeline, growth) = made().await;
        let (sink, field) = (
            Arc::clone(&pipeline.sinks),
            Field {
                name: "m".to_owned(),
                path: path::Path::field("m"),
                sql_type: "text".to_owned(),
                not_null: false,
            },
        );
        let more = async {
            waits_for_lock().await;
            growth.add(&sink[0], &SchemaId::Version("s.good-value".to_owned(), None), vec![field]);
        };
        let grown = pipeline.grown(&settings, &growth, Duration::ZERO);
        let (grown, ()) = tokio::time::timeout(limit, async { tokio::join!(grown, more) }).await.unwrap();
        grown.unwrap();
        assert_eq!(tables(&pipeline), ["shop.good"]);
        assert_eq!(pipeline.sinks[0].columns.len(), 2);
        assert!(pipeline.templates[0].is_new("s.wide"));
        // The lock is free.
        let (mut pipeline, growth) = made().await;
        let more = async {
            waits_for_lock().await;
            holder.batch_execute("COMMIT").await.unwrap();
        };
        let grown = pipeline.grown(&settings, &growth, Duration::ZERO);
        let (grown, ()) = tokio::time::timeout(limit, async { tokio::join!(grown, more) }).await.unwrap();
        grown.unwrap();
        assert_eq!(tables(&pipeline), ["shop.good", "shop.wide"]);
    }
}
