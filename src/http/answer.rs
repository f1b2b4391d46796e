//! Reading an answer: whose length is told, or in chunks, or up to the end.

/// Of a head.
const HEAD_BYTES: usize = 64 * 1024;

/// Status and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// What these bytes say; `None` while more must come. `is_all`: no more will. `longest`: of a body, in bytes.
///
/// # Errors
/// If it is no answer, is too long, or ends before its end.
pub(crate) fn parse(bytes: &[u8], is_all: bool, longest: usize) -> Result<Option<Answer>, String> {
    let mut rest = bytes;
    loop {
        let Some(end) = find(rest, b"\r\n\r\n") else {
            if rest.len() > HEAD_BYTES {
                return Err("the head of the answer is too long".to_owned());
            }
            return unless(is_all);
        };
        let (head, body) = (&rest[..end], &rest[end + 4..]);
        let head = Head::parse(head).ok_or("the answer is not HTTP")?;
        // "Continue", and hints: the answer itself comes after them.
        if (100..200).contains(&head.status) {
            rest = body;
            continue;
        }
        let body = match head.length {
            Length::Told(length) if length > longest => return Err("the answer is too long".to_owned()),
            Length::Told(length) => body.get(..length).map(<[u8]>::to_vec),
            Length::Chunks => dechunk(body, longest)?,
            Length::ToTheEnd => is_all.then(|| body.to_vec()),
        };
        return match body {
            Some(body) => Ok(Some(Answer { status: head.status, body })),
            None if rest.len() > HEAD_BYTES + 2 * longest => Err("the answer is too long".to_owned()),
            None => unless(is_all),
        };
    }
}

fn unless(is_all: bool) -> Result<Option<Answer>, String> {
    if is_all { Err("the connection was closed before the answer was whole".to_owned()) } else { Ok(None) }
}

enum Length {
    Told(usize),
    Chunks,
    ToTheEnd,
}

struct Head {
    status: u16,
    length: Length,
}

impl Head {
    fn parse(head: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
        let mut words = lines.next()?.split(' ');
        if !words.next()?.starts_with("HTTP/1.") {
            return None;
        }
        let status = words.next().filter(|word| word.len() == 3)?.parse().ok()?;
        let (mut told, mut chunks) = (None, false);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                told = Some(value.parse().ok()?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                // Any other was not asked for.
                chunks = value.eq_ignore_ascii_case("chunked");
                if !chunks {
                    return None;
                }
            }
        }
        // As RFC 9112 (6.3) orders them.
        let length = match (status, chunks, told) {
            (204 | 304, ..) => Length::Told(0),
            (_, true, _) => Length::Chunks,
            (_, false, Some(length)) => Length::Told(length),
            (_, false, None) => Length::ToTheEnd,
        };
        Some(Self { status, length })
    }
}

/// `None` while chunks are missing. What follows the last one is of no interest.
fn dechunk(mut bytes: &[u8], longest: usize) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        let Some(end) = find(bytes, b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&bytes[..end]).ok().and_then(|line| line.split(';').next());
        let digits = size.map(str::trim).filter(|size| size.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let size = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let size = size.ok_or("a chunk of the answer has no size")?;
        if size == 0 {
            return Ok(Some(body));
        }
        if body.len().saturating_add(size) > longest {
            return Err("the answer is too long".to_owned());
        }
        bytes = &bytes[end + 2..];
        let Some(chunk) = bytes.get(..size) else { return Ok(None) };
        body.extend_from_slice(chunk);
        match bytes.get(size..size + 2) {
            Some(b"\r\n") => bytes = &bytes[size + 2..],
            Some(_) => return Err("a chunk of the answer is longer than it says".to_owned()),
            None => return Ok(None),
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, what)
}
