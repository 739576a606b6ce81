// SPDX-License-Identifier: MIT

//! The coordinator's settings when no rule interferes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::Value;

#[derive(Debug, Clone)]
pub struct CoordinatorSettings {
    /// The local runtime. Without one, every session waits for ever.
    pub runtime: Option<String>,
    pub listen: SocketAddr,
    /// The address of the storage server; another host than the API's.
    pub storage: SocketAddr,
    pub api_keys: Vec<String>,
    /// The models that exist; empty for any name.
    pub models: Vec<String>,
    /// The longest lifetime of a token, in whole seconds.
    pub token_lifetime: Duration,
    pub presign_lifetime: Duration,
    pub waiting: GpuWait,
    /// How long a session is kept after its last connection was lost. The runtime has a limit of
    /// its own (`ORPHAN_TIMEOUT_SECONDS`, 60) and takes some seconds to notice the loss.
    pub resume_window: Duration,
    /// How long a session that has its GPU waits for the first connection.
    pub first_connection: Duration,
    /// The longest duration of a session.
    pub session_lifetime: Option<Duration>,
    /// The ICE servers for clients; the runtime's list if unset.
    pub ice_servers: Option<Value>,
    /// A client with an older version gets 426, one with a newer version 501.
    pub api_version: u32,
}

impl Default for CoordinatorSettings {
    fn default() -> Self {
        Self {
            runtime: None,
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            // All of 127/8 is this machine's on Linux, and only there.
            storage: if cfg!(target_os = "linux") {
                (Ipv4Addr::new(127, 0, 0, 2), 0).into()
            } else {
                (Ipv4Addr::LOCALHOST, 0).into()
            },
            api_keys: vec!["rk_test".into()],
            models: Vec::new(),
            token_lifetime: Duration::from_secs(6 * 3600),
            presign_lifetime: Duration::from_secs(300),
            waiting: GpuWait::default(),
            resume_window: Duration::from_secs(30),
            first_connection: Duration::from_secs(60),
            session_lifetime: None,
            ice_servers: None,
            api_version: 1,
        }
    }
}

/// How long no GPU is free, in addition to the time that another session has it: both conditions
/// must be over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GpuWait {
    /// The number of replies to `GET /sessions/{id}` without capabilities and transport.
    pub answers: usize,
    /// Since the session was created.
    pub time: Duration,
}

impl GpuWait {
    pub fn answers(answers: usize) -> Self {
        Self {
            answers,
            time: Duration::ZERO,
        }
    }

    pub fn time(time: Duration) -> Self {
        Self { answers: 0, time }
    }

    pub fn forever() -> Self {
        Self::answers(usize::MAX)
    }
}
