// SPDX-License-Identifier: MIT

//! The fuzz targets on stable Rust: first their seeds as they are, then changed ones, for
//! 5 s each. `REACTOR_FUZZ_SECONDS` sets another time, and other changes each time.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed, TestRunner},
};

/// All of them together take half of this on two processors.
const SECONDS: u64 = 5;
/// The largest corpus, in bytes: it is part of the repository.
const MAX_CORPUS: u64 = 1 << 20;

fn fuzz_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The seeds of a target, in the order of their names.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = fuzz_directory().join("corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// An input, shown so that a test can be made of it.
#[derive(Clone)]
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// A change of an input. Places are fractions of its length, in 1/65536.
#[derive(Debug, Clone)]
enum Change {
    Set(u16, u8),
    /// Numbers at the border of what a field holds.
    Number(u16, u32),
    Insert(u16, Vec<u8>),
    Remove(u16, u8),
    /// Some bytes are there once more, at another place.
    Repeat(u16, u16, u8),
    Truncate(u16),
}

fn change() -> impl Strategy<Value = Change> {
    let borders = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0x8000_0000, u32::MAX];
    let number = prop_oneof![prop::sample::select(borders.to_vec()), any::<u32>()];
    prop_oneof![
        any::<(u16, u8)>().prop_map(|(at, byte)| Change::Set(at, byte)),
        (any::<u16>(), number).prop_map(|(at, number)| Change::Number(at, number)),
        (any::<u16>(), vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        any::<(u16, u8)>().prop_map(|(at, length)| Change::Remove(at, length)),
        any::<(u16, u16, u8)>().prop_map(|(from, to, n)| Change::Repeat(from, to, n)),
        any::<u16>().prop_map(Change::Truncate),
    ]
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        let place = |at: u16| (length * usize::from(at)) >> 16;
        let end = |at: usize, count: u8| length.min(at + usize::from(count));
        match self {
            Self::Set(at, byte) => {
                if let Some(changed) = bytes.get_mut(place(*at)) {
                    *changed = *byte;
                }
            }
            Self::Number(at, number) => {
                if let Some(changed) = bytes[place(*at)..].first_chunk_mut() {
                    *changed = number.to_be_bytes();
                }
            }
            Self::Insert(at, inserted) => {
                let at = place(*at);
                bytes.splice(at..at, inserted.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = place(*at);
                bytes.drain(at..end(at, *count));
            }
            Self::Repeat(from, to, count) => {
                let (from, to) = (place(*from), place(*to));
                let copy = bytes[from..end(from, *count)].to_vec();
                bytes.splice(to..to, copy);
            }
            Self::Truncate(at) => bytes.truncate(place(*at)),
        }
    }
}

/// Seeds with some changes, and bytes of no kind.
fn inputs(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Input> {
    let changed = (prop::sample::select(seeds), vec(change(), 1..6));
    let changed = changed.prop_map(|(mut bytes, changes)| {
        changes.iter().for_each(|change| change.apply(&mut bytes));
        Input(bytes)
    });
    prop_oneof![
        9 => changed,
        1 => vec(any::<u8>(), 0..300).prop_map(Input),
    ]
}

fn try_inputs(name: &str, target: fn(&[u8])) {
    let seconds = env::var("REACTOR_FUZZ_SECONDS").ok();
    let deadline = seconds
        .as_ref()
        .map_or(SECONDS, |text| text.parse().unwrap());
    let deadline = Instant::now() + Duration::from_secs(deadline);
    let seeds = seeds(name);
    seeds.iter().for_each(|seed| target(seed));
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        // A change elsewhere must not be refused for what nobody has touched.
        rng_seed: match seconds {
            None => RngSeed::Fixed(1),
            Some(_) => RngSeed::Random,
        },
        ..Config::default()
    });
    let inputs = inputs(seeds);
    let mut cases = 0;
    while Instant::now() < deadline {
        let input = inputs.new_tree(&mut runner).unwrap();
        let run = runner.run_one(input, |Input(bytes)| {
            target(&bytes);
            Ok(())
        });
        run.unwrap_or_else(|error| panic!("{error}"));
        cases += 1;
    }
    println!("{name}: {cases} inputs");
}

macro_rules! targets {
    ($($target:ident),* $(,)?) => {
        const TARGETS: &[&str] = &[$(stringify!($target)),*];

        $(
            #[test]
            fn $target() {
                try_inputs(stringify!($target), super::$target);
            }
        )*
    };
}

targets! {
    capabilities,
    commands,
    frame_trailer,
    frames,
    ice_servers,
    message,
    mp4_clip,
    mp4_fragment,
    mp4_header,
    navigation,
    playlist,
    redundancy,
    schema,
    sdp_answer,
    uri,
}

#[test]
fn targets_are_those_of_cargo_fuzz() {
    let names = |directory: &str| {
        let entries = fs::read_dir(fuzz_directory().join(directory)).unwrap();
        let name = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap().path())).collect();
        names.sort();
        names
    };
    assert_eq!(names("fuzz_targets"), TARGETS);
    assert_eq!(names("corpus"), TARGETS);
    let manifest = fs::read_to_string(fuzz_directory().join("Cargo.toml")).unwrap();
    for target in TARGETS {
        let path = format!("path = \"fuzz_targets/{target}.rs\"");
        assert!(manifest.contains(&path), "{path}");
    }
}

#[test]
fn corpus_is_small() {
    let seeds = TARGETS.iter().flat_map(|target| seeds(target));
    let size: usize = seeds.map(|seed| seed.len()).sum();
    assert!((size as u64) < MAX_CORPUS, "{size} bytes");
}
