//! The values at several paths of a JSON document, in one walk through it; nothing is copied.
//!
//! Two ways lead through it: `skim.rs` is the fast one, and takes what most documents are; the one here takes all others,
//! and says what is wrong with those that are none.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::path::Step;
use super::skim;

/// A JSON value as it stands in a document that was read, without the blanks around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Raw<'de>(&'de str);

impl<'de> Raw<'de> {
    /// Of text that is one.
    pub(super) fn of(json: &'de str) -> Self {
        Self(json)
    }

    pub(crate) fn get(self) -> &'de str {
        self.0
    }
}

impl<'de> From<&'de RawValue> for Raw<'de> {
    fn from(raw: &'de RawValue) -> Self {
        Self(raw.get())
    }
}

/// The paths, compiled: a tree of steps.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Whether a column takes it, or something in it: else it belongs to the rest.
    pub(super) is_taken: bool,
    /// Takes the whole value.
    pub(super) slots: Vec<usize>,
    /// Whether its fields are columns in its place, which are null where there is no object.
    pub(super) is_spread: bool,
    /// What stands before the names of such an object's other fields, if they belong to the rest.
    pub(super) prefix: Option<Box<str>>,
    pub(super) fields: Vec<(Box<str>, Self)>,
    pub(super) elements: Vec<(usize, Self)>,
}

/// Why there is nothing to take values from.
#[derive(Debug)]
pub(crate) enum Misfit {
    Json(serde_json::Error),
    /// A path goes on where there is a number, a string or a boolean, or the wrong kind of container.
    Inside(String),
}

impl From<serde_json::Error> for Misfit {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

/// Fields of the outermost object, and of those that are spread, that no column takes, nor anything in them.
pub(crate) type Rest<'de> = Vec<(Cow<'de, str>, Raw<'de>)>;

/// A tree that takes these fields of an object, each into the slot of its place.
pub(crate) fn of_fields<const N: usize>(names: [&str; N]) -> Tree {
    let mut tree = Tree::default();
    for (slot, name) in names.into_iter().enumerate() {
        tree.add(&[Step::Field(name.to_owned())], slot, true);
    }
    tree
}

impl Tree {
    /// The value at `steps` goes into the slot of this number. `takes`: for a column, and so out of the rest.
    pub(crate) fn add(&mut self, steps: &[Step], slot: usize, takes: bool) {
        self.is_taken |= takes;
        let Some((first, rest)) = steps.split_first() else {
            self.slots.push(slot);
            return;
        };
        let child = match first {
            Step::Field(name) => self.field(name),
            Step::Element(index) => self.element(*index),
        };
        child.add(rest, slot, takes);
    }

    /// The objects in this one are spread, as far as paths go into them. A name in them is called by the objects' around
    /// it, too, with `separator` between them. `may_lack`: something else may be in their place.
    pub(crate) fn spread(&mut self, separator: &str, may_lack: bool) {
        let around = self.prefix.clone().unwrap_or_default();
        for (name, tree) in self.fields.iter_mut().filter(|(_, tree)| !tree.fields.is_empty()) {
            tree.is_spread = may_lack;
            // Of what a column takes whole, nothing is left.
            tree.prefix = tree.slots.is_empty().then(|| format!("{around}{name}{separator}").into());
            tree.spread(separator, may_lack);
        }
    }

    /// Takes what another tree takes, too.
    pub(crate) fn join(&mut self, other: &Self) {
        self.is_taken |= other.is_taken;
        self.is_spread |= other.is_spread;
        self.prefix = self.prefix.take().or_else(|| other.prefix.clone());
        self.slots.extend(&other.slots);
        other.fields.iter().for_each(|(name, tree)| self.field(name).join(tree));
        other.elements.iter().for_each(|(index, tree)| self.element(*index).join(tree));
    }

    /// Of a field; made, if there is none yet.
    pub(crate) fn field(&mut self, name: &str) -> &mut Self {
        let at = self.fields.iter().position(|(known, _)| **known == *name).unwrap_or_else(|| {
            self.fields.push((name.into(), Self::default()));
            self.fields.len() - 1
        });
        &mut self.fields[at].1
    }

    fn element(&mut self, index: usize) -> &mut Self {
        let at = self.elements.iter().position(|(known, _)| *known == index).unwrap_or_else(|| {
            self.elements.push((index, Self::default()));
            self.elements.len() - 1
        });
        &mut self.elements[at].1
    }

    /// Forgets what an earlier field of the same name has left (of several the last one counts), or another document.
    pub(crate) fn clear(&self, slots: &mut [Option<Raw<'_>>]) {
        for &slot in &self.slots {
            slots[slot] = None;
        }
        let inner =
            self.fields.iter().map(|(_, tree)| tree).chain(self.elements.iter().map(|(_, tree)| tree));
        inner.for_each(|tree| tree.clear(slots));
    }

    /// What the rest calls a field of it.
    pub(super) fn called<'de>(&self, name: Cow<'de, str>) -> Cow<'de, str> {
        match &self.prefix {
            Some(prefix) => Cow::Owned(format!("{prefix}{name}")),
            None => name,
        }
    }

    /// Whether a value, all of it, belongs to the rest.
    pub(super) fn leaves(&self, value: Raw<'_>) -> bool {
        !self.is_taken || self.prefix.is_some() && !value.get().starts_with(['{', 'n'])
    }

    /// Where there is no object that could be spread.
    pub(super) fn nullify<'de>(&self, value: Raw<'de>, slots: &mut [Option<Raw<'de>>]) {
        // A null itself may stand for what could not be read.
        let null = if value.get().starts_with('n') { value } else { Raw("null") };
        let inner = self.fields.iter().map(|(_, tree)| tree);
        inner.for_each(|tree| {
            tree.slots.iter().for_each(|slot| slots[*slot] = Some(null));
            tree.nullify(null, slots);
        });
    }

    pub(super) fn goes_on(&self) -> bool {
        !self.fields.is_empty() || !self.elements.is_empty()
    }

    /// Whether nothing is wanted.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.fields.is_empty() && self.elements.is_empty()
    }

    /// Fills `slots` from a document; those for which it has nothing stay as they are. `rest`: where the outermost
    /// object's other fields go.
    pub(crate) fn fill<'de>(
        &self,
        document: &'de [u8],
        slots: &mut [Option<Raw<'de>>],
        mut rest: Option<&mut Rest<'de>>,
    ) -> Result<(), Misfit> {
        match self.skim(document, slots, rest.as_deref_mut()) {
            Some(()) => Ok(()),
            None => self.walk(document, slots, rest),
        }
    }

    /// The fast way. `None`: `slots` and `rest` are as they were, and the document is for the other one.
    pub(crate) fn skim<'de>(
        &self,
        document: &'de [u8],
        slots: &mut [Option<Raw<'de>>],
        mut rest: Option<&mut Rest<'de>>,
    ) -> Option<()> {
        let before = rest.as_ref().map_or(0, |rest| rest.len());
        let skimmed = skim::fill(self, document, slots, rest.as_deref_mut());
        if skimmed.is_none() {
            self.clear(slots);
            if let Some(rest) = rest {
                rest.truncate(before);
            }
        }
        skimmed
    }

    /// The way that takes everything.
    pub(super) fn walk<'de>(
        &self,
        document: &'de [u8],
        slots: &mut [Option<Raw<'de>>],
        rest: Option<&mut Rest<'de>>,
    ) -> Result<(), Misfit> {
        let mut json = serde_json::Deserializer::from_slice(document);
        if self.slots.is_empty()
            && self.elements.is_empty()
            && document.trim_ascii_start().first() == Some(&b'{')
        {
            let walk = Walk { tree: self, slots, rest, misfit: None };
            let misfit = walk.deserialize(&mut json)?;
            json.end()?;
            return misfit.map_or(Ok(()), Err);
        }
        let whole = <&RawValue>::deserialize(&mut json)?;
        json.end()?;
        self.take(whole.into(), slots, rest)
    }

    fn take<'de>(
        &self,
        raw: Raw<'de>,
        slots: &mut [Option<Raw<'de>>],
        rest: Option<&mut Rest<'de>>,
    ) -> Result<(), Misfit> {
        for &slot in &self.slots {
            slots[slot] = Some(raw);
        }
        let goes_on = self.goes_on() || rest.is_some();
        let first = raw.get().as_bytes().first().copied().unwrap_or(b'n');
        if self.is_spread && first != b'{' {
            self.nullify(raw, slots);
            return Ok(());
        }
        if !goes_on || first == b'n' {
            return Ok(());
        }
        let mut json = serde_json::Deserializer::from_str(raw.get());
        let misfit = match first {
            b'{' if self.elements.is_empty() => {
                Walk { tree: self, slots, rest, misfit: None }.deserialize(&mut json)?
            }
            b'[' if self.fields.is_empty() && rest.is_none() => {
                Elements { tree: self, slots, misfit: None }.deserialize(&mut json)?
            }
            _ => Some(Misfit::Inside(self.wanted())),
        };
        misfit.map_or(Ok(()), Err)
    }

    /// What is looked for here, in the file's words.
    fn wanted(&self) -> String {
        match (self.fields.first(), self.elements.first()) {
            (Some((name, _)), _) => format!("an object with a field {name}"),
            (None, Some((index, _))) => format!("an array with an element [{index}]"),
            (None, None) => "an object".to_owned(),
        }
    }
}

/// Through an object.
struct Walk<'t, 's, 'de> {
    tree: &'t Tree,
    slots: &'s mut [Option<Raw<'de>>],
    rest: Option<&'s mut Rest<'de>>,
    misfit: Option<Misfit>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_, 'de> {
    type Value = Option<Misfit>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_, 'de> {
    type Value = Option<Misfit>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(mut self, mut map: M) -> Result<Self::Value, M::Error> {
        let fields = &self.tree.fields;
        // Where the next field most likely is: objects of a topic mostly have one order.
        let mut next = 0;
        while let Some(Name(name)) = map.next_key()? {
            let guessed = fields.get(next).is_some_and(|(known, _)| **known == *name);
            let found =
                if guessed { Some(next) } else { fields.iter().position(|(known, _)| **known == *name) };
            match (found, self.rest.as_mut()) {
                (Some(at), _) => {
                    let value: Raw<'de> = map.next_value::<&RawValue>()?.into();
                    next = at + 1;
                    let tree = &fields[at].1;
                    if tree.goes_on() {
                        tree.clear(self.slots);
                    }
                    if let (true, Some(rest)) = (tree.leaves(value), &mut self.rest) {
                        rest.push((self.tree.called(name), value));
                    }
                    let inner = self.rest.as_deref_mut().filter(|_| tree.prefix.is_some());
                    if let Err(misfit) = tree.take(value, self.slots, inner) {
                        self.misfit.get_or_insert(misfit);
                    }
                }
                (None, Some(rest)) => {
                    rest.push((self.tree.called(name), map.next_value::<&RawValue>()?.into()));
                }
                (None, None) => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(self.misfit)
    }
}

/// A field's name; borrowed, unless there is an escape in it.
pub(crate) struct Name<'de>(pub(crate) Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// Through an array.
struct Elements<'t, 's, 'de> {
    tree: &'t Tree,
    slots: &'s mut [Option<Raw<'de>>],
    misfit: Option<Misfit>,
}

impl<'de> DeserializeSeed<'de> for Elements<'_, '_, 'de> {
    type Value = Option<Misfit>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_, '_, 'de> {
    type Value = Option<Misfit>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<S: SeqAccess<'de>>(mut self, mut array: S) -> Result<Self::Value, S::Error> {
        let mut index = 0;
        while let Some(value) = array.next_element::<&'de RawValue>()? {
            for (_, tree) in self.tree.elements.iter().filter(|(wanted, _)| *wanted == index) {
                if let Err(misfit) = tree.take(value.into(), self.slots, None) {
                    self.misfit.get_or_insert(misfit);
                }
            }
            index += 1;
        }
        Ok(self.misfit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::path::Path;
    use super::*;

    fn taken(paths: &[&str], document: &str) -> Result<Vec<Option<String>>, Misfit> {
        let mut tree = Tree::default();
        for (slot, path) in paths.iter().enumerate() {
            tree.add(&path.parse::<Path>().unwrap().steps, slot, true);
        }
        let mut slots = vec![None; paths.len()];
        tree.fill(document.as_bytes(), &mut slots, None)?;
        Ok(slots.into_iter().map(|slot| slot.map(|raw| raw.get().to_owned())).collect())
    }

    #[test]
    fn values_are_taken_as_they_stand() {
        let document =
            r#" {"a": 1.10, "b": {"c": [true, {"d": "x"}], "e\u0041": null}, "a": 12345678901234567890} "#;
        let paths =
            ["value.a", "value.b.c[1].d", "value.b.c", "value.b.eA", "value.b.none", "value.x", "value"];
        let taken = taken(&paths, document).unwrap();
        let expected = [
            Some("12345678901234567890"),
            Some(r#""x""#),
            Some(r#"[true, {"d": "x"}]"#),
            Some("null"),
            None,
            None,
            Some(document.trim()),
        ];
        assert_eq!(taken, expected.map(|text| text.map(str::to_owned)));
    }

    #[test]
    fn of_several_fields_of_a_name_the_last_one_counts() {
        let paths = ["value.a.x", "value.a.y", "value.a"];
        let last = taken(&paths, r#"{"a":{"x":1,"y":2},"a":{"y":3}}"#).unwrap();
        assert_eq!(last, [None, Some("3".to_owned()), Some(r#"{"y":3}"#.to_owned())]);
        assert_eq!(taken(&paths, r#"{"a":{"x":1},"a":null}"#).unwrap()[0], None);
    }

    #[test]
    fn a_null_on_the_way_is_no_value_and_anything_else_is_a_misfit() {
        assert_eq!(taken(&["value.a.b"], r#"{"a": null}"#).unwrap(), [None]);
        assert_eq!(taken(&["value.a"], "null").unwrap(), [None]);
        for (path, document) in [
            ("value.a.b", r#"{"a": 1}"#),
            ("value.a[0]", r#"{"a": {}}"#),
            ("value.a", "[1]"),
            ("value.a", r#""text""#),
        ] {
            assert!(matches!(taken(&[path], document), Err(Misfit::Inside(_))), "{path} in {document}");
        }
        for document in ["", "{", r#"{"a": 1} x"#, r#"{"a": 01}"#, "\u{1}"] {
            assert!(matches!(taken(&["value.a"], document), Err(Misfit::Json(_))), "{document}");
        }
    }

    #[test]
    fn what_no_path_names_is_the_rest() {
        let mut tree = Tree::default();
        tree.add(&"value.a.x".parse::<Path>().unwrap().steps, 0, true);
        // A condition takes nothing away.
        tree.add(&"value.b".parse::<Path>().unwrap().steps, 1, false);
        let (mut slots, mut rest) = ([None; 2], Rest::new());
        let document = br#"{"b": 1, "a": {"x": 2, "y": 3}, "c": {"d": []}}"#;
        tree.fill(document, &mut slots, Some(&mut rest)).unwrap();
        let rest: Vec<_> = rest.iter().map(|(name, raw)| (&**name, raw.get())).collect();
        assert_eq!(rest, [("b", "1"), ("c", r#"{"d": []}"#)]);
    }

    #[test]
    fn what_is_left_of_spread_objects_is_the_rest_too() {
        let mut tree = Tree::default();
        for (slot, path) in ["value.a.x", "value.a.b.y", "value.w.x", "value.w"].iter().enumerate() {
            tree.add(&path.parse::<Path>().unwrap().steps, slot, true);
        }
        tree.spread("_", true);
        for (document, taken, left) in [
            (
                r#"{"a": {"x": 1, "n": 2, "b": {"y": 3, "m": null}}, "w": {"x": 4, "n": 5}}"#,
                [Some("1"), Some("3"), Some("4"), Some(r#"{"x": 4, "n": 5}"#)],
                &[("a_n", "2"), ("a_b_m", "null")][..],
            ),
            (
                r#"{"a": "t", "w": [6]}"#,
                [Some("null"), Some("null"), Some("null"), Some("[6]")],
                &[("a", r#""t""#)],
            ),
            (
                r#"{"a": {"b": 7}, "w": null}"#,
                [None, Some("null"), Some("null"), Some("null")],
                &[("a_b", "7")],
            ),
            ("{}", [None; 4], &[]),
        ] {
            for fast in [true, false] {
                let (mut slots, mut rest) = ([None; 4], Rest::new());
                let document = document.as_bytes();
                if fast {
                    tree.skim(document, &mut slots, Some(&mut rest)).unwrap();
                } else {
                    tree.walk(document, &mut slots, Some(&mut rest)).unwrap();
                }
                assert_eq!(slots.map(|slot| slot.map(Raw::get)), taken, "fast: {fast}");
                let rest: Vec<_> = rest.iter().map(|(name, raw)| (&**name, raw.get())).collect();
                assert_eq!(rest, left, "fast: {fast}");
            }
        }
    }
}
