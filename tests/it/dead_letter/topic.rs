//! An export to a topic.

use std::collections::BTreeMap;

use super::{BAD, Named};
use crate::operator::shapes::{check, documented};
use crate::support::{Sink, TestResult, World};

#[tokio::test]
async fn core_an_export_to_a_topic_is_the_records_whole() -> TestResult {
    let world = World::new("to-topic", 2).await?;
    let dead = format!("{}.dead", world.topic);
    world.another_topic((&dead, 2)).await?;
    let bad = |partition| world.message(partition).key(BAD);
    for message in [
        bad(0)
            .value(vec![0, 0xff, b'x'])
            .header("trace", vec![1, 0, 0xfe])
            .header("trace", "")
            .timestamp_ms(1_700_000_000_123),
        bad(1),
        bad(1).value(""),
        bad(0).value(vec![b'x'; 900_000]),
    ] {
        world.producer.send(message)?;
    }
    world.producer.flush().await?;
    let worker = world.worker_with(world.setting_aside(), Sink { fault: Named::default(), rows_only: true });
    world.caught_up().await?;
    worker.stop().await?;
    assert_eq!(world.letters().await?.len(), 4);

    let export = ["dead-letters", "export", "--group", &world.group, "--to-topic"];
    // Its own topic would give them back to it, without end; and no topic is made by a slip of the hand.
    for (topic, why) in [(&*world.topic, "reads topic"), ("mistyped", "there is no topic mistyped")] {
        let said = world.highwater(&[&export[..], &[topic]].concat()).await?.ended(2);
        assert!(said.stderr.contains(why), "{}", said.stderr);
    }
    let said = world.highwater(&[&export[..], &[&dead]].concat()).await?.ended(0).stdout;
    assert!(said.starts_with(&format!("4 records written to {dead}, at least once")), "{said}");

    let sent = world.kafka.read(&world.topic).await?;
    let exported = world.kafka.read(&dead).await?;
    assert_eq!(exported.len(), sent.len());
    for record in &exported {
        let headers: BTreeMap<&str, &str> = record
            .headers
            .iter()
            .filter(|(name, _)| name.starts_with("__"))
            .map(|(name, value)| {
                (&**name, std::str::from_utf8(value.as_deref().expect("a value")).expect("text"))
            })
            .collect();
        let offset: i64 = headers["__dlq.errors.offset"].parse()?;
        let original = sent.iter().find(|sent| (sent.partition, sent.offset) == (record.partition, offset));
        let original = original.expect("the partition is its own");
        assert_eq!(record.key, original.key);
        assert!(record.value == original.value, "the value of {offset}");
        assert_eq!(record.timestamp_ms, original.timestamp_ms);
        assert_eq!(
            record.headers[..original.headers.len()],
            original.headers,
            "what it had comes first, as it was"
        );
        let partition = record.partition.to_string();
        let (partition, topic, group) = (&*partition, &*world.topic, &*world.group);
        let (place, why) = (offset.to_string(), format!("offset {offset} is no good"));
        let (place, why) = (&*place, &*why);
        for (name, value) in [
            ("__dlq.errors.topic", topic),
            ("__dlq.errors.partition", partition),
            ("__dlq.errors.group", group),
            ("__dlq.errors.delivery.count", "1"),
            ("__dlq.errors.message", why),
            ("__connect.errors.topic", topic),
            ("__connect.errors.partition", partition),
            ("__connect.errors.offset", place),
            ("__connect.errors.connector.name", group),
            ("__connect.errors.exception.message", why),
            ("__highwater.dead_letter.state", "open"),
            ("__highwater.dead_letter.timestamp_type", "CreateTime"),
        ] {
            assert_eq!(headers.get(name), Some(&value), "{name}");
        }
    }
    // Begun again it writes again, and the number tells.
    let again = world.highwater(&[&export[..], &[&dead, "--json"]].concat()).await?.ended(0).json();
    check(&again, &documented("dead-letters export --to-topic"), "export");
    assert_eq!(again["exported"], 4);
    let mut times: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for record in world.kafka.read(&dead).await? {
        let id = record.headers.into_iter().find(|(name, _)| name == "__highwater.dead_letter.id");
        *times.entry(id.and_then(|(_, id)| id).expect("its number")).or_default() += 1;
    }
    assert_eq!(times.into_values().collect::<Vec<_>>(), [2; 4]);
    Ok(())
}
