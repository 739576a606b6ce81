// SPDX-License-Identifier: MIT

//! Session lifecycle over HTTP: the cloud, or a local runtime. Called from the
//! tasks of the session driver; it keeps no state of a session and never retries.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{
    Error,
    auth::{ApiCredentials, TokenCache},
    endpoint::Endpoint,
    http::HttpClient,
    signaling::Signaling,
    upload::UploadClient,
};

mod cloud;
mod descriptor;
mod local;

pub use cloud::{Cloud, ModelName};
#[cfg(test)]
pub use descriptor::Capabilities;
pub use descriptor::{Ownership, SessionDescriptor};
pub use local::{LocalRuntime, RunningSession};

/// The server that has the sessions.
#[derive(Debug, Clone)]
pub enum Coordinator {
    Local(LocalRuntime),
    Cloud(Cloud),
}

impl Coordinator {
    /// A local runtime; see [`LocalRuntime::new`].
    pub fn local(base: &str, running: RunningSession) -> Result<Self, Error> {
        LocalRuntime::new(HttpClient::shared()?, base, running).map(Self::Local)
    }

    /// The cloud; see [`Cloud::new`].
    pub fn cloud(
        base: &str,
        model: Option<ModelName>,
        max_session_duration: Option<Duration>,
        access: ApiCredentials,
    ) -> Result<Self, Error> {
        let (http, tokens) = (HttpClient::shared()?, TokenCache::shared());
        let limit = max_session_duration;
        Cloud::new(http, base, model, limit, access, tokens).map(Self::Cloud)
    }

    /// Joins the session of that id or, without one, creates one.
    ///
    /// A local runtime has one session at most: [`RunningSession`] says what is
    /// done about one that runs. One of the cloud's may not be ready yet
    /// ([`SessionDescriptor::is_ready`]); then [`Coordinator::describe`] tells when
    /// it is.
    pub async fn begin(
        &self,
        adopt: Option<&str>,
        arguments: Option<&Map<String, Value>>,
    ) -> Result<(SessionDescriptor, Ownership), Error> {
        let joined = match (self, adopt) {
            (Self::Local(runtime), Some(id)) => runtime.adopt(id).await,
            (Self::Cloud(cloud), Some(id)) => cloud.adopt(id).await,
            (Self::Local(runtime), None) => return runtime.start(arguments).await,
            (Self::Cloud(cloud), None) => {
                let created = cloud.create(arguments).await?;
                return Ok((created, Ownership::Created));
            }
        };
        joined.map(|session| (session, Ownership::Joined))
    }

    /// The session, in whatever state it is.
    pub async fn describe(&self, session_id: &str) -> Result<SessionDescriptor, Error> {
        match self {
            Self::Local(runtime) => runtime.describe().await,
            Self::Cloud(cloud) => cloud.describe(session_id).await,
        }
    }

    /// Ends the session. That there is none to end is a success.
    pub async fn end(&self, session_id: &str) -> Result<(), Error> {
        match self {
            Self::Local(runtime) => runtime.stop().await,
            Self::Cloud(cloud) => cloud.end(session_id).await,
        }
    }

    /// Where a session's server is, and the right to what is the session's.
    pub fn endpoint(&self, session_id: &str) -> Endpoint {
        match self {
            Self::Local(runtime) => runtime.endpoint().clone(),
            Self::Cloud(cloud) => cloud.endpoint(session_id),
        }
    }

    /// The calls that upload files to a session.
    pub fn uploads(&self, session_id: &str) -> UploadClient {
        UploadClient::new(self.endpoint(session_id), session_id)
    }

    /// The signaling calls of a session.
    pub fn signaling(&self, session_id: &str) -> Signaling {
        Signaling::new(self.endpoint(session_id), session_id)
    }
}
