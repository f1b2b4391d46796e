//! The fast way through a JSON document, in one pass: for those that are as most are.
//!
//! It takes less than there is: a name with an escape in it that is looked at, nesting of more than 64 in what nobody asks
//! for, a path that goes on where there is something else, bytes that are no UTF-8, and whatever is no JSON, it leaves to
//! the other way (`extract.rs`), whose words all of that gets. What it does take, the other one takes in the same way.

use std::borrow::Cow;

use super::extract::{Raw, Rest, Tree};

/// As [`Tree::fill`]. `None`: it is for the other way; some of `slots` and `rest` may be filled then.
pub(super) fn fill<'de>(
    tree: &Tree,
    document: &'de [u8],
    slots: &mut [Option<Raw<'de>>],
    rest: Option<&mut Rest<'de>>,
) -> Option<()> {
    let text = std::str::from_utf8(document).ok()?;
    let mut skim = Skim { text, at: 0 };
    match skim.next()? {
        // Its names are looked at, whether or not any is wanted.
        b'{' if tree.slots.is_empty() && tree.elements.is_empty() => skim.object(tree, slots, rest)?,
        _ => skim.value(tree, slots, rest)?,
    }
    skim.next().is_none().then_some(())
}

/// A document, and how far it was read.
struct Skim<'de> {
    text: &'de str,
    at: usize,
}

impl<'de> Skim<'de> {
    /// What comes next, behind blanks.
    #[inline]
    fn next(&mut self) -> Option<u8> {
        loop {
            let next = *self.text.as_bytes().get(self.at)?;
            if !matches!(next, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(next);
            }
            self.at += 1;
        }
    }

    /// Over a sign that must come next.
    #[inline]
    fn over(&mut self, sign: u8) -> Option<()> {
        (self.next()? == sign).then(|| self.at += 1)
    }

    /// A value that somebody may ask for.
    fn value(
        &mut self,
        tree: &Tree,
        slots: &mut [Option<Raw<'de>>],
        rest: Option<&mut Rest<'de>>,
    ) -> Option<()> {
        let first = self.next()?;
        let start = self.at;
        match first {
            b'n' => self.skip()?,
            _ if !tree.goes_on() && rest.is_none() => self.skip()?,
            b'{' if tree.elements.is_empty() => self.object(tree, slots, rest)?,
            _ if tree.is_spread && first != b'{' => self.skip()?,
            b'[' if tree.fields.is_empty() && rest.is_none() => self.array(tree, slots)?,
            _ => return None,
        }
        if !tree.slots.is_empty() {
            let raw = Raw::of(self.text.get(start..self.at)?);
            tree.slots.iter().for_each(|slot| slots[*slot] = Some(raw));
        }
        if tree.is_spread && first != b'{' {
            tree.nullify(Raw::of(self.text.get(start..self.at)?), slots);
        }
        Some(())
    }

    fn object(
        &mut self,
        tree: &Tree,
        slots: &mut [Option<Raw<'de>>],
        mut rest: Option<&mut Rest<'de>>,
    ) -> Option<()> {
        let fields = &tree.fields;
        // Where the next field most likely is: objects of a topic mostly have one order.
        let mut next = 0;
        self.over(b'{')?;
        if self.next()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            let name = self.name()?;
            self.over(b':')?;
            self.next()?;
            let start = self.at;
            let is = |known: &(Box<str>, Tree)| *known.0 == *name;
            let guessed = fields.get(next).is_some_and(is);
            let found = if guessed { Some(next) } else { fields.iter().position(is) };
            match found {
                Some(at) => {
                    next = at + 1;
                    let tree = &fields[at].1;
                    if tree.goes_on() {
                        tree.clear(slots);
                    }
                    self.value(tree, slots, rest.as_deref_mut().filter(|_| tree.prefix.is_some()))?;
                }
                None => self.skip()?,
            }
            if let Some(rest) = &mut rest {
                let value = Raw::of(self.text.get(start..self.at)?);
                if found.is_none_or(|at| fields[at].1.leaves(value)) {
                    rest.push((tree.called(Cow::Borrowed(name)), value));
                }
            }
            if !self.goes_on(b'}')? {
                return Some(());
            }
        }
    }

    fn array(&mut self, tree: &Tree, slots: &mut [Option<Raw<'de>>]) -> Option<()> {
        self.over(b'[')?;
        if self.next()? == b']' {
            self.at += 1;
            return Some(());
        }
        let mut index = 0;
        loop {
            match tree.elements.iter().find(|(wanted, _)| *wanted == index) {
                Some((_, tree)) => self.value(tree, slots, None)?,
                None => self.skip()?,
            }
            if !self.goes_on(b']')? {
                return Some(());
            }
            index += 1;
        }
    }

    /// Behind a field or an element: whether another one follows.
    #[inline]
    fn goes_on(&mut self, end: u8) -> Option<bool> {
        let next = self.next()?;
        self.at += 1;
        match next {
            b',' => Some(true),
            next => (next == end).then_some(false),
        }
    }

    /// A field's name, if there is no escape in it.
    #[inline]
    fn name(&mut self) -> Option<&'de str> {
        self.over(b'"')?;
        let start = self.at;
        self.at += plain(&self.text.as_bytes()[start..]);
        let name = self.text.get(start..self.at)?;
        (*self.text.as_bytes().get(self.at)? == b'"').then(|| {
            self.at += 1;
            name
        })
    }

    /// A value that nobody asks for.
    #[inline]
    fn skip(&mut self) -> Option<()> {
        match self.next()? {
            b'{' | b'[' => self.container(),
            _ => self.scalar(),
        }
    }

    /// Everything in it is skipped, too; of what it is in, each bit says whether that is an object.
    fn container(&mut self) -> Option<()> {
        let (mut depth, mut objects) = (0_u32, 0_u64);
        loop {
            let first = self.next()?;
            let end = match first {
                b'{' => b'}',
                b'[' => b']',
                _ => 0,
            };
            if end == 0 {
                self.scalar()?;
            } else {
                self.at += 1;
                if self.next()? == end {
                    self.at += 1;
                } else {
                    if depth == u64::BITS {
                        return None;
                    }
                    depth += 1;
                    objects = objects << 1 | u64::from(first == b'{');
                    if first == b'{' {
                        self.key()?;
                    }
                    continue;
                }
            }
            loop {
                if depth == 0 {
                    return Some(());
                }
                let is_object = objects & 1 == 1;
                if self.goes_on(if is_object { b'}' } else { b']' })? {
                    if is_object {
                        self.key()?;
                    }
                    break;
                }
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    /// The name of a field that nobody asks for.
    fn key(&mut self) -> Option<()> {
        self.over(b'"')?;
        self.string()?;
        self.over(b':')
    }

    fn scalar(&mut self) -> Option<()> {
        match self.next()? {
            b'"' => {
                self.at += 1;
                self.string()
            }
            b'n' => self.word(b"null"),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            _ => self.number(),
        }
    }

    /// Over the rest of a string.
    #[inline]
    fn string(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        loop {
            self.at += plain(&bytes[self.at..]);
            match bytes.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => {
                    self.at += match bytes.get(self.at + 1)? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                        b'u' if bytes.get(self.at + 2..self.at + 6)?.iter().all(u8::is_ascii_hexdigit) => 6,
                        _ => return None,
                    };
                }
                _ => return None,
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.text.as_bytes()[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        if *bytes.get(self.at)? == b'-' {
            self.at += 1;
        }
        match bytes.get(self.at)? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// One at least.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.text.as_bytes().get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

/// How many bytes come before the next quote, backslash or control character; eight at a time.
#[inline]
fn plain(bytes: &[u8]) -> usize {
    const EACH: u64 = u64::MAX / 255;
    // Mycroft's test for a byte below a bound: the lowest one that it marks is one.
    let below = |word: u64, bound: u64| word.wrapping_sub(EACH * bound) & !word;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut at = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let quote = below(word ^ (EACH * u64::from(b'"')), 1);
        let backslash = below(word ^ (EACH * u64::from(b'\\')), 1);
        let found = (below(word, 0x20) | quote | backslash) & (EACH << 7);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let ends = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    at + rest.iter().position(ends).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests;
