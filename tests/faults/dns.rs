// SPDX-License-Identifier: MIT

//! The names of servers, with a resolver of the test's own: one that refuses, one that is slow, and
//! one that never answers.

use std::{
    net::UdpSocket,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use reactor_coordinator::CoordinatorSettings;
use reactor_tests::{
    cloud::{KEY, start_coordinator},
    link_down::in_own_namespace,
    mount_namespace,
    pipeline::wait_until,
    process::Process,
    scratch::TempFile,
    server::{Server, repository},
};
use serde_json::{Value, json};

use crate::support::TIMEOUT;

/// Each request, from the look-up of the name on.
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than a look-up, which takes 10 s and more.
const STOP_LIMIT: Duration = Duration::from_secs(8);
/// A name without a domain to search.
const NAME: &str = "server.reactor.test";

/// RFC 1035, 4.1.1.
const SERVER_FAILURE: u8 = 2;
const NAME_ERROR: u8 = 3;

#[derive(Debug, Clone, Copy)]
enum Answer {
    /// Any name is 127.0.0.1, after this time.
    Loopback(Duration),
    Refusal(u8),
    Nothing,
}

/// A DNS server, and the files that have a child process ask it.
struct Resolver {
    queries: Arc<AtomicUsize>,
    resolv_conf: TempFile,
    nsswitch: TempFile,
}

impl Resolver {
    /// At 127.0.0.`last`, which no other test has. `None` where that is not permitted.
    fn start(last: u8, answer: Answer) -> Option<Self> {
        if !in_own_namespace() {
            return None;
        }
        let address = format!("127.0.0.{last}");
        let socket = UdpSocket::bind((address.as_str(), 53)).expect("the port of DNS");
        let [resolv_conf, nsswitch] =
            ["resolv.conf", "nsswitch.conf"].map(|name| TempFile::new(&format!("{last}-{name}")));
        std::fs::write(&resolv_conf.0, format!("nameserver {address}\n")).unwrap();
        std::fs::write(&nsswitch.0, "hosts: files dns\n").unwrap();
        let queries = Arc::new(AtomicUsize::new(0));
        let count = queries.clone();
        // Ends with the process.
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut query) {
                count.fetch_add(1, Ordering::SeqCst);
                let (query, socket) = (query[..length].to_vec(), socket.try_clone().unwrap());
                thread::spawn(move || {
                    if let Some(reply) = reply(&query, answer) {
                        let _ = socket.send_to(&reply, client);
                    }
                });
            }
        });
        Some(Self {
            queries,
            resolv_conf,
            nsswitch,
        })
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let bind = |file: &TempFile, path: &str| {
            format!("mount --bind {} $(readlink -f {path})", file.0.display())
        };
        let script = format!(
            "{}\n{}",
            bind(&self.resolv_conf, "/etc/resolv.conf"),
            bind(&self.nsswitch, "/etc/nsswitch.conf")
        );
        mount_namespace::command(&script, program.as_ref()).expect("a mount namespace")
    }

    fn wait_for_query(&self) {
        wait_until("a query", TIMEOUT, || {
            self.queries.load(Ordering::SeqCst) > 0
        });
    }
}

/// The reply to a query (RFC 1035, 4.1), after the time that it takes.
fn reply(query: &[u8], answer: Answer) -> Option<Vec<u8>> {
    const A: [u8; 2] = [0, 1];
    let name_length = query[12..].iter().position(|byte| *byte == 0)?;
    let question = &query[12..12 + name_length + 5];
    let is_a = question[name_length + 1..name_length + 3] == A;
    let (code, address) = match answer {
        Answer::Nothing => return None,
        Answer::Refusal(code) => (code, None),
        Answer::Loopback(delay) => {
            thread::sleep(delay);
            (0, is_a.then_some([127, 0, 0, 1]))
        }
    };
    let answers = u8::from(address.is_some());
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
    reply.extend(question);
    if let Some(address) = address {
        // The name of the question, A, IN, 0 s, 4 bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend(address);
    }
    Some(reply)
}

/// The first error of a source whose server has a name.
fn first_error(resolver: &Resolver) -> (Value, Duration) {
    let mut command = resolver.command(repository().join("tests/programs/error.py"));
    command.arg(format!(
        "reactorsrc local=true api-url=http://{NAME}:8080 ! fakesink"
    ));
    let mut child = Process::start("dns-error", command);
    resolver.wait_for_query();
    let asked = Instant::now();
    child.assert_succeeds(2 * TIMEOUT);
    let took = asked.elapsed();
    let output = child.output();
    (serde_json::from_str(output.trim()).expect(&output), took)
}

fn assert_fails(last: u8, answer: Answer, code: &str, words: &[&str]) {
    let Some(resolver) = Resolver::start(last, answer) else {
        return eprintln!("not root: no resolver");
    };
    let (error, took) = first_error(&resolver);
    println!("{answer:?}: {error} after {took:?}");
    assert_eq!(error["code"], code, "{error}");
    assert_eq!(error["recoverable"], true, "{error}");
    let text = error["text"].as_str().unwrap();
    for word in words.iter().chain(&[NAME]) {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(took < HTTP_TIMEOUT + STOP_LIMIT, "{answer:?}: {took:?}");
}

#[test]
fn unknown_name_posts_network_error() {
    let words = ["not known", "is api-url right"];
    assert_fails(101, Answer::Refusal(NAME_ERROR), "NETWORK_ERROR", &words);
}

#[test]
fn failing_resolver_posts_network_error() {
    let words = ["name resolution", "network up?"];
    let answer = Answer::Refusal(SERVER_FAILURE);
    assert_fails(102, answer, "NETWORK_ERROR", &words);
}

#[test]
fn silent_resolver_posts_timeout() {
    assert_fails(103, Answer::Nothing, "REQUEST_TIMEOUT", &["in time"]);
}

/// Nothing waits for the look-up, which goes on for 10 s and more.
#[test]
fn look_up_can_be_interrupted() {
    let Some(resolver) = Resolver::start(104, Answer::Nothing) else {
        return eprintln!("not root: no resolver");
    };
    let mut command = resolver.command("gst-launch-1.0");
    command.args(["reactorsrc", "local=true"]);
    command.arg(format!("api-url=http://{NAME}:8080"));
    command.args(["!", "fakesink"]);
    let mut launch = Process::start("dns-interrupt", command);
    resolver.wait_for_query();
    let begun = Instant::now();
    launch.signal(libc::SIGINT);
    let status = launch.wait(TIMEOUT);
    let took = begun.elapsed();
    println!("interrupted: {status} after {took:?}");
    assert!(status.code().is_some(), "{status}: {}", launch.output());
    assert!(took < STOP_LIMIT, "{took:?}");
}

#[test]
fn slow_resolver_delays_only() {
    let answer = Answer::Loopback(Duration::from_secs(3));
    let Some(resolver) = Resolver::start(105, answer) else {
        return eprintln!("not root: no resolver");
    };
    let server = Server::playground();
    let mut command = resolver.command("gst-launch-1.0");
    command.args(["reactorsrc", "local=true"]);
    command.arg(format!("api-url=http://{NAME}:{}", server.port));
    command.args("! identity eos-after=20 ! fakesink".split(' '));
    let mut launch = Process::start("dns-slow", command);
    launch.assert_succeeds(2 * TIMEOUT);
    assert!(resolver.queries.load(Ordering::SeqCst) > 0);
    server.wait_for_state("ready", TIMEOUT);
}

/// The STUN and TURN servers have names, and the resolver never answers.
#[test]
fn silent_resolver_of_ice_servers_delays_nothing() {
    let Some(resolver) = Resolver::start(106, Answer::Nothing) else {
        return eprintln!("not root: no resolver");
    };
    let server = Server::playground();
    let settings = CoordinatorSettings {
        ice_servers: Some(json!([
            {"uris": [format!("stun:{NAME}:3478")]},
            {"uris": [format!("turn:turn.{NAME}:3478?transport=udp")],
             "credentials": {"username": "u", "password": "p"}},
        ])),
        ..CoordinatorSettings::default()
    };
    let coordinator = start_coordinator(&server, settings);
    let mut command = resolver.command("gst-launch-1.0");
    command
        .env("REACTOR_API_KEY", KEY)
        .env_remove("REACTOR_JWT");
    command.args(["reactorsrc", "model=playground"]);
    command.arg(format!("api-url={}", coordinator.url()));
    command.args("! identity eos-after=20 ! fakesink".split(' '));
    let mut launch = Process::start("dns-ice", command);
    resolver.wait_for_query();
    let asked = Instant::now();
    launch.assert_succeeds(TIMEOUT);
    println!("with silent names of ICE servers: {:?}", asked.elapsed());
    assert!(asked.elapsed() < HTTP_TIMEOUT, "{:?}", asked.elapsed());
    assert!(coordinator.open_sessions().is_empty());
}
