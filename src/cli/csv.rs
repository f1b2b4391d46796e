//! Positions as Kafka's tool reads and writes them: `topic,partition,offset`, with several groups
//! `group,topic,partition,offset`, without a header.

use std::collections::BTreeSet;
use std::path::Path;

use highwater::offsets::Position;
use highwater::{Error, ErrorKind, Result};

use super::operator::usage;

pub(crate) fn write(positions: &[Position], with_groups: bool) -> Result<String> {
    let failed =
        |source: csv::Error| Error::new(ErrorKind::Internal, "could not write CSV").with_source(source);
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    for Position { group, topic, partition, offset } in positions {
        let written = if with_groups {
            writer.serialize((group, topic, partition, offset))
        } else {
            writer.serialize((topic, partition, offset))
        };
        written.map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| failed(error.into_error().into()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the file says of these groups.
pub(crate) fn read_file(path: &Path, groups: &[String]) -> Result<Vec<Position>> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| usage(format!("could not read {}", path.display())).with_source(source))?;
    read(&text, groups).map_err(|why| usage(format!("{}: {why}", path.display())))
}

fn read(text: &str, groups: &[String]) -> Result<Vec<Position>, String> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut seen = BTreeSet::new();
    let mut positions = Vec::new();
    for (record, line) in reader.records().zip(1..) {
        let record = record.map_err(|error| error.to_string())?;
        let fields: Vec<&str> = record.iter().collect();
        let (group, rest) = match (fields.as_slice(), groups) {
            ([_, _, _], [group]) => (group.as_str(), fields.as_slice()),
            ([_, _, _], _) => {
                return Err(format!(
                    "line {line} has no group, and there are several: group,topic,partition,offset"
                ));
            }
            ([group, rest @ ..], _) if rest.len() == 3 => (*group, rest),
            _ => {
                return Err(format!(
                    "line {line} is neither topic,partition,offset nor group,topic,partition,offset"
                ));
            }
        };
        let wrong = |what: &str| format!("line {line}: {what} is not a number");
        let position = Position {
            group: group.to_owned(),
            topic: rest[0].to_owned(),
            partition: rest[1].parse().map_err(|_| wrong(rest[1]))?,
            offset: rest[2].parse().map_err(|_| wrong(rest[2]))?,
        };
        if !seen.insert((position.group.clone(), position.topic.clone(), position.partition)) {
            return Err(format!("line {line} names {}:{} once more", position.topic, position.partition));
        }
        if groups.contains(&position.group) {
            positions.push(position);
        }
    }
    match groups.iter().find(|group| !positions.iter().any(|position| position.group == **group)) {
        Some(group) => Err(format!("it says nothing of group {group}")),
        None => Ok(positions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(group: &str, topic: &str, partition: i32, offset: i64) -> Position {
        Position { group: group.to_owned(), topic: topic.to_owned(), partition, offset }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let both = ["a, \"b\"".to_owned(), "g".to_owned()];
        let positions = vec![position(&both[0], "t", 0, 5), position("g", "t", 1, 7)];
        let text = write(&positions, true).unwrap();
        assert_eq!(text, "\"a, \"\"b\"\"\",t,0,5\ng,t,1,7\n");
        assert_eq!(read(&text, &both).unwrap(), positions);
        assert_eq!(read(&text, &both[1..]).unwrap(), positions[1..]);
        let text = write(&positions[1..], false).unwrap();
        assert_eq!(text, "t,1,7\n");
        assert_eq!(read(&text, &both[1..]).unwrap(), positions[1..]);
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        let one = ["g".to_owned()];
        let two = ["g".to_owned(), "h".to_owned()];
        for (text, groups, why) in [
            ("t,0", &one[..], "neither"),
            ("t,x,1", &one, "x is not a number"),
            ("TOPIC,PARTITION,OFFSET", &one, "not a number"),
            ("t,0,1\nt,0,2", &one, "once more"),
            ("t,0,1", &two, "no group"),
            ("g,t,0,1", &two, "nothing of group h"),
            ("", &one, "nothing of group g"),
        ] {
            let error = read(text, groups).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    crate::fuzz::fuzz!(
        any_file_is_read_or_refused,
        &[
            "g",
            "h",
            ",",
            "\"",
            "\n",
            "0",
            "12",
            "-1",
            " ",
            "payments",
            "\r\n",
            "99999999999999999999",
            "t,0,5\n",
            "g,t,1,7\n"
        ],
        |bytes| {
            let (text, groups) = (String::from_utf8_lossy(bytes), ["g".to_owned(), "h".to_owned()]);
            for groups in [&groups[..], &groups[..1]] {
                if let Ok(positions) = read(&text, groups) {
                    let written = write(&positions, true).unwrap();
                    assert_eq!(read(&written, groups), Ok(positions), "{written:?}");
                }
            }
        }
    );
}
