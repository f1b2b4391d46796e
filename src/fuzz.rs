//! Whatever reads what strangers send or people type is given anything.
//!
//! With `cargo test` each target takes a second of random inputs; `HIGHWATER_FUZZ_SECONDS=3600` more. An input that breaks
//! a target is made smaller and shown, to become a test of its own. (Not by bolero: 0.13.7 holds `indexmap` at a version that
//! the TOML parser is past.)

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use fastrand::Rng;

/// How long an input is, for the most part, and at most.
const USUAL: usize = 64;
const LONGEST: usize = 4_096;

/// Gives random inputs to `body` until the time is over: plain bytes, and such as are made of `words`.
pub(crate) fn run(name: &str, words: &[&str], body: impl Fn(&[u8])) {
    let seconds = std::env::var("HIGHWATER_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(1));
    let holds = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| body(input))).is_ok();
    let mut random = Rng::new();
    let mut before = Vec::new();
    let mut count = 0_u64;
    while count < 16 || Instant::now() < until {
        before = next(&mut random, before, words);
        if !holds(&before) {
            let input = smaller(before, holds);
            panic!("{name} does not hold for b\"{}\"", input.escape_ascii());
        }
        count += 1;
    }
    println!("{name}: {count} inputs");
}

/// Something new, or something near what was before.
fn next(random: &mut Rng, mut before: Vec<u8>, words: &[&str]) -> Vec<u8> {
    let length =
        |random: &mut Rng| if random.u8(..) == 0 { random.usize(..LONGEST) } else { random.usize(..USUAL) };
    match random.u8(..8) {
        0 => {
            let count = length(random);
            std::iter::repeat_with(|| random.u8(..)).take(count).collect()
        }
        1..4 => {
            let count = length(random) / 3;
            let mut text = Vec::new();
            for _ in 0..count {
                match random.usize(..words.len() + 2) {
                    at if at < words.len() => text.extend_from_slice(words[at].as_bytes()),
                    _ => text.push(random.u8(..)),
                }
            }
            text
        }
        _ => {
            let at = random.usize(..=before.len());
            match random.u8(..4) {
                0 => drop(before.drain(at..(at + random.usize(..4)).min(before.len()))),
                1 if !words.is_empty() && before.len() < LONGEST => {
                    let word = words[random.usize(..words.len())].bytes();
                    before.splice(at..at, word);
                }
                2 if at < before.len() => before[at] ^= 1 << random.u8(..8),
                _ if before.len() < LONGEST => before.extend_from_within(at..),
                _ => {}
            }
            before
        }
    }
}

/// Without what is not needed to break it.
fn smaller(mut input: Vec<u8>, holds: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut portion = input.len();
    while portion > 0 {
        let mut at = 0;
        while at < input.len() {
            let mut less = input.clone();
            less.drain(at..(at + portion).min(input.len()));
            if holds(&less) {
                at += portion;
            } else {
                input = less;
            }
        }
        portion /= 2;
    }
    input
}

/// A test that gives any bytes to its body, and such as are made of these words.
macro_rules! fuzz {
    ($(#[$meta:meta])* $name:ident, $words:expr, |$bytes:ident| $body:block) => {
        $(#[$meta])*
        #[test]
        fn $name() {
            $crate::fuzz::run(stringify!($name), $words, |$bytes: &[u8]| $body);
        }
    };
}
pub(crate) use fuzz;

#[test]
fn what_breaks_a_target_is_found_and_made_small() {
    let broken = catch_unwind(|| {
        run("it", &["ab", "c", "dd"], |bytes| assert!(!bytes.windows(3).any(|window| window == b"abc")));
    });
    let shown = *broken.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(shown, "it does not hold for b\"abc\"");
}
