// SPDX-License-Identifier: MIT

//! The stand-in coordinator as a program; see the library's documentation.

use std::{net::SocketAddr, sync::mpsc, time::Duration};

use anyhow::{Context, Result};
use clap::Parser;
use reactor_coordinator::{Coordinator, CoordinatorSettings, GpuWait};

/// The time that the runtime has to release a session.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Stands in for the cloud's coordinator before a local runtime.
#[derive(Debug, Parser)]
struct Options {
    /// The local runtime; without one, every session waits.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    runtime: String,

    /// Where the API is.
    #[arg(long, default_value = "127.0.0.1:9080")]
    listen: SocketAddr,

    /// Where presigned URLs lead [default: another address of this machine, any port]
    #[arg(long)]
    storage: Option<SocketAddr>,

    /// A key that is accepted; may be given more than once.
    #[arg(long = "api-key", default_value = "rk_test")]
    api_keys: Vec<String>,

    /// A model there is; may be given more than once [default: any name]
    #[arg(long = "model")]
    models: Vec<String>,

    /// How long tokens last at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 21600)]
    token_lifetime: u64,

    /// How long sessions last at most [default: no limit]
    #[arg(long, value_name = "SECONDS")]
    session_lifetime: Option<u64>,

    /// How long a session without a connection is kept.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    resume_window: u64,

    /// So many times a new session is still waiting when it is asked for.
    #[arg(long, value_name = "N", default_value_t = 0)]
    waiting_answers: usize,

    /// So long a new session is waiting.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    waiting_time: u64,

    /// Said to clients, such as '[{"uris":["turn:10.0.0.1"],"credentials":{...}}]'
    /// [default: what the runtime says]
    #[arg(long, value_name = "JSON")]
    ice_servers: Option<serde_json::Value>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let defaults = CoordinatorSettings::default();
    let settings = CoordinatorSettings {
        runtime: Some(options.runtime),
        listen: options.listen,
        storage: options.storage.unwrap_or(defaults.storage),
        api_keys: options.api_keys,
        models: options.models,
        token_lifetime: Duration::from_secs(options.token_lifetime),
        session_lifetime: options.session_lifetime.map(Duration::from_secs),
        resume_window: Duration::from_secs(options.resume_window),
        waiting: GpuWait {
            answers: options.waiting_answers,
            time: Duration::from_secs(options.waiting_time),
        },
        ice_servers: options.ice_servers,
        ..defaults
    };
    let (sender, receiver) = mpsc::channel();
    ctrlc::set_handler(move || {
        let _ = sender.send(());
    })
    .context("Ctrl-C cannot be caught")?;
    let coordinator = Coordinator::start(settings)?;
    println!(
        "api={} storage={}",
        coordinator.url(),
        coordinator.storage_url()
    );
    let _ = receiver.recv();
    coordinator.end_all(END_LIMIT);
    Ok(())
}
