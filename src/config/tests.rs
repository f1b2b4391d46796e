//! Sources, precedence, and errors that name the culprit.

use std::io::Write as _;

use super::parse;
use super::settings::SETTINGS;
use super::*;
use crate::error::Error;

fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> + use<> {
    let pairs: Vec<(String, String)> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    pairs.into_iter()
}

/// The least that a worker needs; nothing listens there.
pub(super) fn partial() -> PartialConfig {
    PartialConfig::default()
        .brokers(vec!["127.0.0.1:1".to_owned()])
        .postgres_url("postgres://localhost/app")
        .group("g")
        .topics(vec!["t".to_owned()])
}

const REQUIRED: &[(&str, &str)] = &[
    ("HIGHWATER_BROKERS", "a:9092, b:9092"),
    ("HIGHWATER_POSTGRES_URL", "postgres://app:s3cret@db/app"),
    ("HIGHWATER_GROUP", "g"),
    ("HIGHWATER_TOPICS", "t1,t2"),
];

fn with(extra: &[(&str, &str)]) -> Result<Config> {
    Config::from_sources(None, env(&[REQUIRED, extra].concat()))
}

fn refused(extra: &[(&str, &str)]) -> Error {
    with(extra).expect_err(&format!("{extra:?}"))
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn defaults_are_those_of_the_design_and_its_records() {
    let config = with(&[]).unwrap();
    assert_eq!(config.brokers, ["a:9092", "b:9092"]);
    assert_eq!(config.topics, ["t1", "t2"]);
    assert_eq!(config.start, StartPolicy::Fail);
    assert_eq!(config.schema, SchemaName::default());
    assert_eq!(config.instance_id, None);
    assert!(config.program.starts_with("highwater"), "{}", config.program);
    assert_eq!(config.lanes, 2);
    assert_eq!(config.max_processing_time, Duration::from_secs(30));
    assert_eq!(config.drain_deadline, Duration::from_secs(10));
    assert_eq!(config.lock_timeout, Duration::from_secs(5));
    assert_eq!(config.mirror_interval, Some(Duration::from_secs(1)));
    assert_eq!(config.retry_backoff_min, Duration::from_millis(100));
    assert_eq!(config.retry_backoff_max, Duration::from_secs(10));
    assert_eq!(config.single_record_timeouts, 3);
    assert_eq!(config.linger, None);
    assert_eq!(config.max_records_per_second, None);
    let spelled = [("HIGHWATER_LINGER", "auto"), ("HIGHWATER_MAX_RECORDS_PER_SECOND", "off")];
    assert_eq!(with(&spelled).unwrap(), config);
    let given = with(&[("HIGHWATER_LINGER", "0ms"), ("HIGHWATER_MAX_RECORDS_PER_SECOND", "200")]).unwrap();
    assert_eq!((given.linger, given.max_records_per_second), (Some(Duration::ZERO), Some(200)));
    assert_eq!(config.batch_target_records, 500);
    assert_eq!(config.batch_max_records, 50_000);
    assert_eq!(config.batch_max_bytes, 16 << 20);
    assert_eq!(config.buffer_budget, 96 << 20);
    assert_eq!(config.on_offset_lost, OnOffsetLost::Halt);
    assert_eq!(config.unknown_topic_timeout, Duration::from_secs(60));
    assert_eq!(config.isolation, Isolation::ReadCommitted);
    assert_eq!(config.group_protocol, GroupProtocol::Classic);
    assert_eq!(config.effective_assignor(), Some(Assignor::CooperativeSticky));
    assert!(config.is_cooperative());
    assert_eq!(config.history_retention, Duration::from_secs(30 * 86_400));
    assert_eq!(config.effective_session_timeout(), Duration::from_secs(10));
    assert_eq!(config.effective_heartbeat_interval(), Duration::from_millis(300));
}

#[test]
fn every_default_is_within_its_own_limits() {
    let config = Config::default();
    let layer = PartialConfig::default();
    check::check_together(&config, &layer).unwrap();
    for setting in SETTINGS {
        if let table::DefaultValue::Text(text) = setting.default {
            let mut layer = PartialConfig::default();
            (setting.set)(&mut layer, &parse::Raw::Text(text.to_owned()), table::Origin::Builder).unwrap();
            layer.check_values().unwrap();
        }
    }
}

#[test]
fn the_builder_beats_flags_beat_the_environment_beats_the_file() {
    let file = file(
        "group = 'file'\nlinger = '1ms'\nlanes = 7\nschema = 'file'\ntopics = ['x', 'y']\nstart = 'latest'\n",
    );
    let variables = [("HIGHWATER_LINGER", "2ms"), ("HIGHWATER_LANES", "8"), ("HIGHWATER_SCHEMA", "env")];
    let sources =
        PartialConfig::from_sources(Some(file.path()), env(&[&REQUIRED[..2], &variables].concat())).unwrap();
    let flags = PartialConfig::from_flags([("linger", "3ms".to_owned()), ("lanes", "9".to_owned())]).unwrap();
    let config =
        PartialConfig::default().linger(Duration::from_millis(4)).or(flags).or(sources).finish().unwrap();
    assert_eq!(config.linger, Some(Duration::from_millis(4)));
    assert_eq!(config.lanes, 9);
    assert_eq!(config.schema.as_str(), "env");
    assert_eq!(config.group, "file");
    assert_eq!(config.topics, ["x", "y"]);
    assert_eq!(config.start, StartPolicy::Latest);
}

#[test]
fn the_file_is_named_by_a_variable_or_given() {
    let named = file("lanes = 3\n[kafka]\n'client.rack' = 'a'\nfetch.min.bytes = 5\ndebug = 'cgrp'\n");
    let path = named.path().to_str().unwrap();
    let config = with(&[("HIGHWATER_CONFIG", path), ("HIGHWATER_KAFKA_CLIENT_RACK", "b")]).unwrap();
    assert_eq!(config.lanes, 3);
    assert_eq!(config.kafka.get("client.rack"), Some("b"));
    assert_eq!(config.kafka.get("fetch.min.bytes"), Some("5"));
    let given = file("lanes = 4\n");
    let variables = [REQUIRED, &[("HIGHWATER_CONFIG", path)]].concat();
    assert_eq!(Config::from_sources(Some(given.path()), env(&variables)).unwrap().lanes, 4);
    assert!(refused(&[("HIGHWATER_CONFIG", "/nowhere.toml")]).to_string().contains("/nowhere.toml"));
}

#[test]
fn mistyped_names_are_errors_with_a_suggestion() {
    for (name, near) in [
        ("HIGHWATER_BROKER", "HIGHWATER_BROKERS"),
        ("HIGHWATER_LINGERS", "HIGHWATER_LINGER"),
        ("HIGHWATER_POSTGRESS_URL", "HIGHWATER_POSTGRES_URL"),
        ("HIGHWATER_CONFIGS", "HIGHWATER_CONFIG"),
    ] {
        let text = refused(&[(name, "x")]).to_string();
        assert!(
            text.contains(&format!("`{name}`")) && text.contains(&format!("did you mean `{near}`")),
            "{text}"
        );
    }
    let text = refused(&[("HIGHWATER_XYZZY", "1")]).to_string();
    assert!(text.contains("docs/configuration.md") && !text.contains("did you mean"), "{text}");
    let wrong = file("lingr = '5ms'\n");
    let text = Config::from_sources(Some(wrong.path()), env(REQUIRED)).unwrap_err().to_string();
    assert!(text.contains("`lingr`") && text.contains("did you mean `linger`"), "{text}");
    assert!(text.contains(wrong.path().to_str().unwrap()), "{text}");
}

/// What is refused elsewhere is refused in the file, too, and the file is named.
#[test]
fn a_file_is_judged_like_the_environment() {
    for (text, part) in [
        ("linger = 20", "20ms"),
        ("linger = '20'", "20ms"),
        ("lanes = ['2']", "is a list"),
        ("lanes = -1", "whole number"),
        ("buffer_budget = '64MB'", "64MiB"),
        ("topics = []", "name at least one"),
        ("max_processing_time = '2s'\nlock_timeout = '3s'", "leaves no time"),
        ("session_timeout = '3s'\nheartbeat_interval = '2s'", "a third"),
        ("[kafka]\nauto.offset.reset = 'earliest'", "EO-6"),
        ("[kafka]\n'group.id' = 'x'", "use the setting `group`"),
        ("[kafka]\n'fetch.mim.bytes' = 1", "fetch.mim.bytes"),
    ] {
        let file = file(&format!("{text}\n"));
        let variables: Vec<(&str, &str)> =
            REQUIRED.iter().filter(|(name, _)| *name != "HIGHWATER_TOPICS").copied().collect();
        let topics = PartialConfig::default();
        let topics = if text.starts_with("topics") { topics } else { topics.topics(vec!["t".to_owned()]) };
        let error = PartialConfig::from_sources(Some(file.path()), env(&variables))
            .and_then(|layer| topics.or(layer).finish())
            .expect_err(text);
        let shown = error.to_string();
        assert!(error.is_configuration() && shown.contains(part), "{text}: {shown}");
        assert!(shown.contains(file.path().to_str().unwrap()), "{text}: {shown}");
    }
}

/// Property by property, as setting by setting.
#[test]
fn the_strongest_source_of_a_property_wins() {
    let file = file("[kafka]\n'client.rack' = 'file'\n'fetch.min.bytes' = 1\n'debug' = 'cgrp'\n");
    let variables = [("HIGHWATER_KAFKA_CLIENT_RACK", "env"), ("HIGHWATER_KAFKA_FETCH_MIN_BYTES", "2")];
    let sources =
        PartialConfig::from_sources(Some(file.path()), env(&[REQUIRED, &variables].concat())).unwrap();
    let config = PartialConfig::default().kafka("client.rack", "program").or(sources).finish().unwrap();
    let found = ["client.rack", "fetch.min.bytes", "debug"].map(|property| config.kafka.get(property));
    assert_eq!(found, [Some("program"), Some("2"), Some("cgrp")]);
}

#[test]
fn what_kubernetes_and_the_tools_set_is_let_through() {
    with(&[
        ("HIGHWATER_SERVICE_HOST", "10.0.0.1"),
        ("HIGHWATER_SERVICE_PORT", "80"),
        ("HIGHWATER_SERVICE_PORT_METRICS", "9090"),
        ("HIGHWATER_PORT", "tcp://10.0.0.1:80"),
        ("HIGHWATER_PORT_80_TCP_ADDR", "10.0.0.1"),
        // Services called highwater-metrics and highwater-kafka
        ("HIGHWATER_METRICS_SERVICE_HOST", "10.0.0.1"),
        ("HIGHWATER_METRICS_PORT", "tcp://10.0.0.1:80"),
        ("HIGHWATER_METRICS_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("HIGHWATER_KAFKA_SERVICE_PORT", "9092"),
        ("HIGHWATER_KAFKA_SERVICE_PORT_TCP", "9092"),
        ("HIGHWATER_KAFKA_PORT_9092_TCP_PROTO", "tcp"),
        ("HIGHWATER_LOG", "debug"),
        ("HIGHWATER_LOG_FORMAT", "json"),
        ("HIGHWATER_CACHE", "/x"),
        ("HIGHWATER_TEST_BACKEND", "local"),
        ("UNRELATED", "x"),
    ])
    .unwrap();
    // and yet a property with such a word in its name arrives
    let config = with(&[("HIGHWATER_KAFKA_SASL_USERNAME", "me")]).unwrap();
    assert_eq!(config.kafka.get("sasl.username"), Some("me"));
}

#[test]
fn required_settings_are_named_together() {
    let text = Config::from_sources(None, env(&REQUIRED[1..3])).unwrap_err().to_string();
    assert!(text.contains("HIGHWATER_BROKERS") && text.contains("HIGHWATER_TOPICS"), "{text}");
    assert!(!text.contains("HIGHWATER_GROUP"), "{text}");
}

#[test]
fn bad_values_name_the_setting_its_origin_and_the_way_out() {
    for (name, value, part) in [
        ("HIGHWATER_GROUP", "", "empty"),
        ("HIGHWATER_BROKERS", ",", "stray comma"),
        ("HIGHWATER_BROKERS", "kafka://a:9092", "scheme"),
        ("HIGHWATER_TOPICS", "a,a", "twice"),
        ("HIGHWATER_TOPICS", "a b", "stray"),
        ("HIGHWATER_TOPICS", "ä", "letters"),
        ("HIGHWATER_TOPICS", "^a", "end it with `$` or `.*`"),
        ("HIGHWATER_TOPICS", "^a.*,^a.*", "twice"),
        ("HIGHWATER_TOPICS", "a,__consumer_offsets", "Kafka's own"),
        ("HIGHWATER_START", "sometime", "choose fail"),
        ("HIGHWATER_START", "timestamp:yesterday", "write it as 2026-04-25T03:00:00Z"),
        ("HIGHWATER_ON_OFFSET_LOST", "nearest", "choose halt, earliest or latest"),
        ("HIGHWATER_SCHEMA", "pg_catalog", "reserves"),
        ("HIGHWATER_LANES", "0", "between 1 and 256"),
        ("HIGHWATER_LANES", "two", "whole number"),
        ("HIGHWATER_LINGER", "20", "20ms"),
        ("HIGHWATER_LINGER", "2h", "between 0ms and 1m"),
        ("HIGHWATER_MAX_RECORDS_PER_SECOND", "0", "between 1 and 100000000"),
        ("HIGHWATER_MAX_RECORDS_PER_SECOND", "auto", "whole number"),
        ("HIGHWATER_BUFFER_BUDGET", "64MB", "64MiB"),
        ("HIGHWATER_LOCK_TIMEOUT", "30s", "`max_processing_time`"),
        ("HIGHWATER_HEARTBEAT_INTERVAL", "5s", "a third"),
        ("HIGHWATER_ISOLATION", "serializable", "read_committed"),
        ("HIGHWATER_INSTANCE_ID", " ", "empty"),
        ("HIGHWATER_GROUP_PROTOCOL", "KIP-848", "choose classic or consumer"),
        ("HIGHWATER_ASSIGNOR", "sticky", "choose cooperative-sticky"),
        ("HIGHWATER_ASSIGNOR", "uniform", "cooperative-sticky, range or roundrobin"),
    ] {
        let mut variables: Vec<(&str, &str)> = REQUIRED.to_vec();
        variables.retain(|(given, _)| *given != name);
        variables.push((name, value));
        let error = Config::from_sources(None, env(&variables)).expect_err(name);
        let text = error.to_string();
        assert!(error.is_configuration(), "{text}");
        assert!(text.contains(part) && text.contains(name), "{name}={value}: {text}");
    }
}

#[test]
fn partitions_by_hand_need_neither_group_nor_topics() {
    let bare = &REQUIRED[..2];
    let read = |extra: &[(&str, &str)]| Config::from_sources(None, env(&[bare, extra].concat()));
    let config = read(&[("HIGHWATER_ASSIGN", "t1:0, t2:11")]).unwrap();
    assert_eq!(config.assign, [TopicPartition::from(("t1", 0)), TopicPartition::from(("t2", 11))]);
    assert_eq!((config.group.as_str(), config.topics.len()), ("", 0));
    let in_file = file("assign = ['t1:3']\n");
    assert_eq!(Config::from_sources(Some(in_file.path()), env(bare)).unwrap().assign[0].partition, 3);
    read(&[("HIGHWATER_ASSIGN", "t1:0,pay.x:1"), ("HIGHWATER_TOPICS", "t1,^pay.*")]).unwrap();
    for (extra, part) in [
        (&[("HIGHWATER_ASSIGN", "t1")][..], "topic:partition"),
        (&[("HIGHWATER_ASSIGN", "t1:x")], "topic:partition"),
        (&[("HIGHWATER_ASSIGN", "t1:-1")], "from 0"),
        (&[("HIGHWATER_ASSIGN", "t1:1,t1:1")], "twice"),
        (&[("HIGHWATER_ASSIGN", "^t.*:1")], "pattern"),
        (&[("HIGHWATER_ASSIGN", "t 1:1")], "stray comma or blank"),
        (&[("HIGHWATER_ASSIGN", "t1:1"), ("HIGHWATER_INSTANCE_ID", "a")], "`instance_id`"),
        (&[("HIGHWATER_ASSIGN", "t1:1"), ("HIGHWATER_TOPICS", "t2,^pay.*")], "t2, ^pay.*"),
    ] {
        let text = read(extra).expect_err(part).to_string();
        assert!(text.contains(part) && text.contains("HIGHWATER_ASSIGN"), "{text}");
    }
    let text = PartialConfig::default().assign(Vec::new()).finish().unwrap_err().to_string();
    assert!(text.contains("HIGHWATER_BROKERS") && !text.contains("HIGHWATER_GROUP"), "{text}");
}

#[test]
fn defaults_give_way_and_given_values_do_not() {
    let config = with(&[
        ("HIGHWATER_MAX_PROCESSING_TIME", "2s"),
        ("HIGHWATER_RETRY_BACKOFF_MAX", "10ms"),
        ("HIGHWATER_BATCH_MAX_RECORDS", "10"),
        ("HIGHWATER_BUFFER_BUDGET", "1MiB"),
    ])
    .unwrap();
    assert_eq!(config.lock_timeout, Duration::from_secs(1));
    assert_eq!(config.retry_backoff_min, Duration::from_millis(10));
    assert_eq!(config.batch_target_records, 10);
    assert_eq!(config.batch_max_bytes, 1 << 20);
    let config = with(&[
        ("HIGHWATER_RETRY_BACKOFF_MIN", "20s"),
        ("HIGHWATER_BATCH_TARGET_RECORDS", "100000"),
        ("HIGHWATER_BATCH_MAX_BYTES", "100MiB"),
    ])
    .unwrap();
    assert_eq!(config.retry_backoff_max, Duration::from_secs(20));
    assert_eq!(config.batch_max_records, 100_000);
    assert_eq!(config.buffer_budget, 100 << 20);
    for ((low, low_value), (high, high_value)) in [
        (("HIGHWATER_RETRY_BACKOFF_MIN", "1s"), ("HIGHWATER_RETRY_BACKOFF_MAX", "10ms")),
        (("HIGHWATER_BATCH_TARGET_RECORDS", "20"), ("HIGHWATER_BATCH_MAX_RECORDS", "10")),
        (("HIGHWATER_BATCH_MAX_BYTES", "2MiB"), ("HIGHWATER_BUFFER_BUDGET", "1MiB")),
    ] {
        let text = refused(&[(low, low_value), (high, high_value)]).to_string();
        assert!(text.contains(high), "{text}");
    }
}

#[test]
fn typed_values_are_checked_like_written_ones() {
    let sources = || PartialConfig::from_sources(None, env(REQUIRED)).unwrap();
    for layer in [
        PartialConfig::default().lanes(0_usize),
        PartialConfig::default().group(""),
        PartialConfig::default().topics(Vec::new()),
        PartialConfig::default().linger(Duration::from_secs(3_600)),
        PartialConfig::default().postgres_url("nonsense"),
        PartialConfig::default().instance_id(Some(String::new())),
    ] {
        let text = layer.or(sources()).finish().unwrap_err().to_string();
        assert!(text.contains("set in the program"), "{text}");
    }
}

#[test]
fn a_short_session_gets_a_shorter_heartbeat() {
    let config = with(&[("HIGHWATER_SESSION_TIMEOUT", "600ms")]).unwrap();
    assert_eq!(config.effective_heartbeat_interval(), Duration::from_millis(200));
    assert_eq!(with(&[("HIGHWATER_MIRROR_INTERVAL", "off")]).unwrap().mirror_interval, None);
}

#[test]
fn what_the_broker_decides_under_the_consumer_protocol_can_not_be_set_here() {
    let consumer = ("HIGHWATER_GROUP_PROTOCOL", "consumer");
    for (name, value, part) in [
        ("HIGHWATER_SESSION_TIMEOUT", "6s", "group.consumer.session.timeout.ms"),
        ("HIGHWATER_HEARTBEAT_INTERVAL", "1s", "group.consumer.heartbeat.interval.ms"),
        ("HIGHWATER_ASSIGNOR", "cooperative-sticky", "uniform or range"),
        ("HIGHWATER_ASSIGNOR", "roundrobin", "uniform or range"),
    ] {
        with(&[(name, value)]).expect("it is fine under classic");
        let error = refused(&[consumer, (name, value)]);
        let text = error.to_string();
        assert!(error.is_configuration(), "{text}");
        assert!(text.contains(name) && text.contains(part), "{text}");
    }
    for assignor in ["uniform", "range"] {
        let config = with(&[consumer, ("HIGHWATER_ASSIGNOR", assignor)]).unwrap();
        assert_eq!(config.effective_assignor().map(Assignor::as_str), Some(assignor));
    }
    let config = with(&[consumer, ("HIGHWATER_INSTANCE_ID", "pod-0")]).unwrap();
    assert_eq!(config.effective_assignor(), None, "the broker chooses");
    // A program that takes back what another layer says
    let layer = PartialConfig::default().session_timeout(None);
    let sources = [REQUIRED, &[consumer, ("HIGHWATER_SESSION_TIMEOUT", "6s")]].concat();
    layer.or(PartialConfig::from_sources(None, env(&sources)).unwrap()).finish().unwrap();
}

#[test]
fn passwords_show_nowhere() {
    let text = format!("{:?}", with(&[("HIGHWATER_KAFKA_SASL_PASSWORD", "s3cret")]).unwrap());
    assert!(text.contains("postgres://app@db:5432/app") && text.contains("sasl.password"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
    let layer = PartialConfig::from_sources(None, env(REQUIRED)).unwrap();
    assert!(!format!("{layer:?}").contains("s3cret"));
    let broken = file("postgres_url = 'postgres://a:s3cret@db\n");
    let error = Config::from_sources(Some(broken.path()), env(REQUIRED)).unwrap_err();
    assert!(error.to_string().contains("line 1") && !error.report().contains("s3cret"), "{error}");
    let typed = file("postgres_url = ['postgres://a:s3cret@db']\n");
    let error = PartialConfig::from_sources(Some(typed.path()), env(&[])).unwrap_err();
    assert!(!error.report().contains("s3cret"), "{error}");
}

#[test]
fn a_tool_needs_the_database_only() {
    let database =
        PartialConfig::from_sources(None, env(&REQUIRED[1..2])).unwrap().finish_database().unwrap();
    assert_eq!(database.schema, SchemaName::default());
    let text = PartialConfig::default().finish_database().unwrap_err().to_string();
    assert!(text.contains("HIGHWATER_POSTGRES_URL") && !text.contains("HIGHWATER_GROUP"), "{text}");
}

crate::fuzz::fuzz!(
    any_duration_and_size_is_what_it_is_shown_as,
    &[
        "0",
        "1",
        "20",
        "9",
        "_",
        "ms",
        "s",
        "m",
        "h",
        "d",
        "B",
        "KiB",
        "MiB",
        "GiB",
        " ",
        "-",
        ".",
        "18446744073709551615"
    ],
    |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(duration) = parse::parse_duration(&text) {
            assert_eq!(parse::parse_duration(&parse::show_duration(duration)), Ok(duration), "{text}");
        }
        let size = parse::bytes(0, usize::MAX);
        let raw = |text: &str| parse::Raw::Text(text.to_owned());
        if let Ok(bytes) = (size.parse)(&raw(&text)) {
            assert_eq!((size.parse)(&raw(&(size.show)(&bytes))), Ok(bytes), "{text}");
        }
        let _ = (parse::ADDRESS.parse)(&raw(&text));
        let _ = text.parse::<StartPolicy>();
        if let Ok(partition) = text.parse::<TopicPartition>() {
            assert_eq!(partition.to_string().parse(), Ok(partition), "{text}");
        }
    }
);

crate::fuzz::fuzz!(
    /// What passes is a regular expression that says of any name whether it matches, soon.
    any_pattern_is_taken_or_refused,
    &["^", "$", ".*", "\\.", "[a-z]", "[", "]", "(", ")", "|", "*", "+", "?", "a", "{2}", "payments", "-", "_", "(?i)", "\\d"],
    |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(pattern) = TopicPattern::new(&text) {
            for topic in ["", "payments", "payments.tx_events", &"a".repeat(249)] {
                let _ = pattern.matches(topic);
            }
        }
    }
);

crate::fuzz::fuzz!(
    /// A file is read or refused; of a value that is secret, no error shows anything.
    any_file_and_secret_is_read_or_refused,
    &[
        "postgres_url", " = ", "\"", "'", "\n", "postgres://a:s3cret@b/c", "kafka", "[kafka]", "sasl.password", "s3cret", "=",
        "lanes", "2", "topics", "[", "]", ",", "{", "}", "#", "linger", "20ms", "\"\"\"", "true", "https://", "@", "/", "?",
    ],
    |bytes| {
        let path = std::env::temp_dir().join(format!("highwater-fuzz-{}.toml", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let _ = PartialConfig::from_file(&path).and_then(PartialConfig::finish);
        let _ = std::fs::remove_file(&path);
        let text = String::from_utf8_lossy(bytes);
        for name in [
            "HIGHWATER_POSTGRES_URL",
            "HIGHWATER_POSTGRES_PASSWORD_COMMAND",
            "HIGHWATER_KAFKA_SASL_PASSWORD",
            "HIGHWATER_KAFKA_SSL_KEY_PEM",
            "HIGHWATER_KAFKA_CLIENT_SECRET",
            "HIGHWATER_KAFKA_TOKEN_URL",
            "HIGHWATER_KAFKA_TOKEN_EXTENSIONS",
        ] {
            let given = [(name.to_owned(), text.clone().into_owned())];
            let settings = PartialConfig::from_sources(None, given.into_iter().chain(env(REQUIRED)));
            match settings.and_then(PartialConfig::finish) {
                Ok(config) => {
                    let shown = format!("{config:?}");
                    // A word without its place is no secret: `postgres://t/s3cret` names a database.
                    let address = config.postgres_url.address().unwrap();
                    let mut open = address.servers();
                    open.extend([address.user(), address.database()].into_iter().flatten().map(str::to_owned));
                    let public = name.contains("TOKEN") || open.iter().any(|part| part.contains("s3cret"));
                    assert!(public || !shown.contains("s3cret"), "{name}: {shown}");
                }
                Err(error) => assert!(!error.report().contains("s3cret"), "{name}: {}", error.report()),
            }
        }
    }
);

/// The password of `evolve_url` comes from one place, and shows nowhere.
#[test]
fn the_owner_of_tables_has_credentials_of_his_own() {
    let url = ("HIGHWATER_EVOLVE_URL", "postgres://owner:s3cret@db/app");
    let config = with(&[url]).unwrap();
    let text = format!("{config:?}");
    assert!(text.contains("postgres://owner@db:5432/app") && !text.contains("s3cret"), "{text}");
    let (file, command) =
        (("HIGHWATER_EVOLVE_PASSWORD_FILE", "/x"), ("HIGHWATER_EVOLVE_PASSWORD_COMMAND", "echo"));
    let plain = ("HIGHWATER_EVOLVE_URL", "postgres://owner@db/app");
    assert!(with(&[plain, file]).is_ok() && with(&[plain, command]).is_ok());
    for (extra, words) in [
        (vec![url, file], "`evolve_url` has a password, too"),
        (vec![plain, file, command], "choose one of the two"),
        (vec![command], "`evolve_url`, which is not set"),
        (vec![("HIGHWATER_EVOLVE_URL", "mysql://db/app")], "evolve_url"),
    ] {
        let error = refused(&extra);
        assert!(error.to_string().contains(words), "{extra:?}: {error}");
    }
}
