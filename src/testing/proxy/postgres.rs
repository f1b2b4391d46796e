//! As much of Postgres' protocol as it takes to lose a COMMIT, or its answer.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{Cut, ServerSide, Shared, lock};
use crate::testing::error::Result;

/// Asks for TLS or GSS encryption; the startup message follows, without a type as well.
const ENCRYPTION_REQUESTS: [u32; 2] = [80_877_103, 80_877_104];

/// What the direction from server to client does with the server's next words.
#[derive(Debug, Default)]
pub(super) struct Answers(AtomicU8);

impl Answers {
    const PASS: u8 = 0;
    /// Keep them to yourself, and end.
    const SWALLOW: u8 = 1;
    /// Pass them on, and end.
    const LAST: u8 = 2;

    /// Whether the end of the connection is a cut.
    pub(super) fn is_cut(&self) -> bool {
        self.get() != Self::PASS
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Shared {
    /// From client to server, message by message.
    pub(super) async fn requests(
        &self,
        from_client: OwnedReadHalf,
        mut to_server: OwnedWriteHalf,
        answers: &Answers,
    ) -> Result<ServerSide> {
        let mut from_client = BufReader::new(from_client);
        // The first message has no type; after it, each is a type, a length that counts itself, and a body.
        let (mut typed, mut in_transaction) = (false, false);
        loop {
            let mut head = [0; 5];
            let head = if typed { &mut head[..] } else { &mut head[..4] };
            from_client.read_exact(head).await?;
            let size = head[head.len() - 4..].iter().fold(0, |size, byte| size << 8 | usize::from(*byte));
            let mut body = vec![0; size.saturating_sub(4)];
            from_client.read_exact(&mut body).await?;
            let query = if typed && head[0] == b'Q' { body.as_slice() } else { &[] };
            let is_commit = query == b"COMMIT\0";
            // A batch's BEGIN stands behind the settings of its session.
            let begins = memchr::memmem::find(query, b"BEGIN ISOLATION LEVEL").is_some();
            let begins = begins || query.starts_with(b"BEGIN");
            if begins {
                in_transaction = true;
            } else if is_commit || query.starts_with(b"ROLLBACK\0") {
                in_transaction = false;
            }
            match self.armed(is_commit, in_transaction && !begins) {
                None => {}
                Some(Cut::Commit) => return Ok(ServerSide::Keep(to_server)),
                Some(Cut::Transaction) => {
                    answers.0.store(Answers::SWALLOW, Ordering::SeqCst);
                    return Ok(ServerSide::Close);
                }
                Some(Cut::Answer) => answers.0.store(Answers::SWALLOW, Ordering::SeqCst),
                Some(Cut::Answered) => answers.0.store(Answers::LAST, Ordering::SeqCst),
            }
            self.deliver(&[&*head, &body].concat(), &mut to_server).await?;
            typed |= !matches!(body.get(..4), Some(&[a, b, c, d])
                if ENCRYPTION_REQUESTS.contains(&u32::from_be_bytes([a, b, c, d])));
        }
    }

    /// The next cut, if it is for here.
    fn armed(&self, is_commit: bool, is_inside: bool) -> Option<Cut> {
        lock(&self.armed).pop_front_if(|cut| if *cut == Cut::Transaction { is_inside } else { is_commit })
    }

    /// From server to client, until told to end.
    pub(super) async fn answers(
        &self,
        mut from_server: OwnedReadHalf,
        mut to_client: OwnedWriteHalf,
        answers: &Answers,
    ) -> Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from_server.read(&mut buffer).await?;
            let what = answers.get();
            if read == 0 || what == Answers::SWALLOW {
                return Ok(());
            }
            self.deliver(&buffer[..read], &mut to_client).await?;
            if what == Answers::LAST {
                return Ok(());
            }
        }
    }
}
