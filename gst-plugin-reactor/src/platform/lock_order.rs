// SPDX-License-Identifier: MIT

//! The order of locks, which debug builds check.
//!
//! A lock is known by the type that its mutex protects. Each time a thread that holds one takes
//! another, the pair is remembered for the whole process, after those of [`ORDER`]. A pair that
//! closes a circle could be a deadlock on another day, and panics on this one. Of two locks of one
//! type there is no order, so that is a circle, too.

use std::{
    any::type_name,
    cell::RefCell,
    collections::BTreeSet,
    marker::PhantomData,
    sync::{LazyLock, Mutex, PoisonError},
};

/// Which lock is held while which other one is taken. `docs/locks.md` has the reasons.
#[rustfmt::skip]
pub(super) const ORDER: &[(&str, &str)] = &[
    ("Option<element::membership::Joined>", "HashMap<String, Weak<session::registry::SharedSession>>"),
    ("Option<element::membership::Joined>", "session::registry::Members"),
    ("Option<element::membership::Joined>", "HashMap<String, Weak<session::shared_state::SharedState>>"),
    ("Option<element::membership::Joined>", "Option<platform::secret::Secret>"),
    ("HashMap<String, Weak<session::registry::SharedSession>>", "session::registry::Members"),
    ("HashMap<String, Weak<session::registry::SharedSession>>", "HashMap<String, Weak<session::shared_state::SharedState>>"),
    ("HashMap<String, Weak<session::registry::SharedSession>>", "Option<platform::secret::Secret>"),
    ("session::registry::Members", "HashMap<String, Weak<session::shared_state::SharedState>>"),
    ("session::registry::Members", "Option<platform::secret::Secret>"),
    ("Option<reactorsrc::decode_chain::DecodeChain>", "reactorsrc::track_stream::StreamState"),
    ("Option<reactorsrc::decode_chain::DecodeChain>", "reactorsrc::frame_rate::Rates"),
    ("reactorsrc::track_stream::StreamState", "reactorsrc::frame_rate::Rates"),
    ("session::settings::Settings", "Option<platform::secret::Secret>"),
    ("reactorsrc::track_stream::StreamState", "element::event_thread::State<reactorsrc::event::SourceEvent>"),
    ("Option<Arc<reactorsrc::messages::MessageStream>>", "reactorsrc::messages::pad::MessagesSettings"),
    ("Option<Arc<reactorsrc::messages::MessageStream>>", "reactorsrc::messages::StreamState"),
    ("Option<reactorsrc::imp::Running>", "reactorsrc::imp::SourceSettings"),
    ("Option<reactorsrc::imp::Running>", "reactorsrc::uri::SourceUri"),
    ("reactorsrc::imp::NeedOrder", "bool"),
    ("Option<element::event_thread::EventQueue<reactorsink::event::SinkEvent>>", "element::event_thread::State<reactorsink::event::SinkEvent>"),
    ("reactorsink::sink_pad::SinkPadState", "session::frame_counters::State"),
    ("element::command_children::State", "element::command_children::child::imp::State"),
    ("HashMap<platform::auth::TokenKey, Arc<platform::auth::TokenSlot>>", "platform::auth::SlotState"),
    ("Option<reactorclip::assembly::Canceller>", "reactorclip::assembly::muxer::MuxerState"),
];

type Pairs = BTreeSet<(String, String)>;

static KNOWN: LazyLock<Mutex<Pairs>> = LazyLock::new(|| Mutex::new(listed()));

fn listed() -> Pairs {
    let pairs = ORDER.iter();
    let owned = pairs.map(|(outer, inner)| ((*outer).to_owned(), (*inner).to_owned()));
    owned.collect()
}

/// With this variable in its environment, a process ends at the first pair that is not listed.
const STRICT: &str = "REACTOR_LOCK_ORDER_STRICT";

thread_local! {
    /// The types that the locks held by this thread protect.
    static HELD: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// One lock of this thread's, until it is dropped.
pub(super) struct Held {
    of: &'static str,
    /// Of this thread's.
    not_send: PhantomData<*const ()>,
}

impl Held {
    /// Before a lock of this type is waited for.
    pub(super) fn new<T>() -> Self {
        let of = type_name::<T>();
        for outer in held() {
            check(outer, of);
        }
        // There is no list any more when a thread ends.
        let _ = HELD.try_with(|held| held.borrow_mut().push(of));
        Self {
            of,
            not_send: PhantomData,
        }
    }

    /// Before this lock is given away for a while, in which no other one may stay locked.
    pub(super) fn assert_alone(&self) {
        let held = held();
        assert!(held.len() < 2, "a wait with {held:?} held");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            if let Some(at) = held.iter().rposition(|of| *of == self.of) {
                held.remove(at);
            }
        });
    }
}

pub(super) fn assert_none() {
    let held = held();
    assert!(
        held.is_empty(),
        "the application's code is called with {held:?} held"
    );
}

fn held() -> Vec<&'static str> {
    HELD.try_with(|held| held.borrow().clone())
        .unwrap_or_default()
}

fn check(outer: &str, inner: &str) {
    let pair = (short_name(outer), short_name(inner));
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if known.contains(&pair) {
        return;
    }
    let is_circle = leads(&known, &pair.1, &pair.0);
    let (outer, inner) = &pair;
    assert!(
        !is_circle,
        "lock order: {inner} is taken while {outer} is held, and elsewhere the other way round"
    );
    eprintln!("lock order: {outer} -> {inner} is not in docs/locks.md");
    if std::env::var_os(STRICT).is_some() {
        std::process::abort();
    }
    known.insert(pair);
}

/// Whether there is a way from one lock to another.
fn leads(pairs: &Pairs, from: &str, to: &str) -> bool {
    let mut reached = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        if at == to {
            return true;
        }
        let next = pairs.iter().filter(|(outer, _)| outer == at);
        open.extend(
            next.map(|(_, inner)| &**inner)
                .filter(|inner| reached.insert(inner)),
        );
    }
    false
}

/// A type's name without the paths of other crates' types, and without this crate's name.
fn short_name(name: &str) -> String {
    let is_path = |c: char| c.is_alphanumeric() || "_:".contains(c);
    let mut short = String::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_path(c) != is_path(first));
        let (part, others) = rest.split_at(end.unwrap_or(rest.len()));
        short += match part.strip_prefix("gstreactor::") {
            Some(own) => own,
            None => part.rsplit("::").next().unwrap_or(part),
        };
        rest = others;
    }
    short
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, thread};

    use super::*;
    use crate::platform::lock;

    struct First;
    struct Second;

    /// Whether the thread panics.
    fn panics(run: impl FnOnce() + Send + 'static) -> bool {
        thread::spawn(run).join().is_err()
    }

    #[test]
    fn opposite_order_panics() {
        static FIRST: Mutex<First> = Mutex::new(First);
        static SECOND: Mutex<Second> = Mutex::new(Second);
        let in_order = || {
            let _first = lock(&FIRST);
            drop(lock(&SECOND));
        };
        assert!(!panics(in_order));
        assert!(panics(|| {
            let _second = lock(&SECOND);
            drop(lock(&FIRST));
        }));
        assert!(!panics(in_order));
    }

    #[test]
    fn two_locks_of_one_type_panic() {
        static LOCKS: [Mutex<First>; 2] = [Mutex::new(First), Mutex::new(First)];
        assert!(panics(|| {
            let _one = lock(&LOCKS[0]);
            drop(lock(&LOCKS[1]));
        }));
    }

    #[test]
    fn wait_and_application_with_lock_panic() {
        static OUTER: Mutex<bool> = Mutex::new(false);
        static INNER: Mutex<u8> = Mutex::new(0);
        static CHANGED: std::sync::Condvar = std::sync::Condvar::new();
        let wait = || drop(lock(&INNER).wait_at_most(&CHANGED, std::time::Duration::ZERO));
        assert!(!panics(wait));
        assert!(panics(move || {
            let _outer = lock(&OUTER);
            wait();
        }));
        assert!(!panics(crate::platform::assert_unlocked));
        assert!(panics(|| {
            let _outer = lock(&OUTER);
            crate::platform::assert_unlocked();
        }));
    }

    #[test]
    fn names_are_short() {
        let name = type_name::<Option<std::sync::Weak<First>>>();
        assert_eq!(
            short_name(name),
            "Option<Weak<platform::lock_order::tests::First>>"
        );
    }

    #[test]
    fn order_has_no_circle() {
        let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (outer, inner) in ORDER {
            assert!(!leads(&known, inner, outer), "{outer} -> {inner}");
        }
    }

    fn read(path: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The cells of the tables in `docs/locks.md`.
    fn rows() -> Vec<Vec<String>> {
        let text = read("../docs/locks.md");
        let lines = text.lines().filter(|line| line.starts_with("| `"));
        let cell = |cell: &str| cell.trim().replace('`', "");
        lines
            .map(|line| line.split('|').skip(1).map(cell).collect())
            .collect()
    }

    #[test]
    fn document_has_this_order() {
        let rows = rows();
        let pairs = rows.iter().filter(|row| !row[0].contains(".rs"));
        let documented: BTreeSet<_> = pairs.map(|row| (row[0].clone(), row[1].clone())).collect();
        assert_eq!(documented, listed());
    }

    /// The mutexes that a file declares: `name: Mutex<` and `name: Arc<Mutex<` in a structure or a
    /// static.
    fn declared(text: &str) -> Vec<String> {
        let lines = text.lines().map(str::trim);
        let fields = lines.filter_map(|line| {
            if let Some((name, of)) = line.split_once('(')
                && let Some(name) = name.strip_prefix("pub struct ")
                && of.trim_start_matches("Arc<").starts_with("Mutex<")
            {
                return Some(name.to_owned());
            }
            let (name, of) = line.split_once(": ")?;
            let of = of.strip_prefix("LazyLock<").unwrap_or(of);
            let of = of.strip_prefix("Arc<").unwrap_or(of);
            let is_field = line.ends_with(',') || line.contains("static ") || line.ends_with('=');
            let name = name.rsplit(' ').next()?;
            (of.starts_with("Mutex<") && is_field).then(|| name.to_owned())
        });
        fields.collect()
    }

    fn visit(directory: &Path, found: &mut dyn FnMut(&Path)) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => visit(&path, found),
                false => found(&path),
            }
        }
    }

    #[test]
    fn document_has_each_lock() {
        let rows = rows();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut missing = Vec::new();
        visit(&source, &mut |path| {
            let file = path
                .strip_prefix(&source)
                .expect("below it")
                .display()
                .to_string();
            if file.contains("test") || file.contains("fuzzing") || file.contains("platform/lock") {
                return;
            }
            for name in declared(&fs::read_to_string(path).expect("text")) {
                let row = rows.iter().find(|row| row[0] == file && row[1] == name);
                if row.is_none() {
                    missing.push(format!("{file} {name}"));
                }
            }
        });
        assert!(missing.is_empty(), "not in docs/locks.md: {missing:#?}");
    }
}
