// SPDX-License-Identifier: MIT

//! The calls that exchange an offer for an answer. The client offers and sends its
//! ICE candidates; the server answers once and never trickles. Called from tokio
//! tasks; it never retries.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Error,
    endpoint::Endpoint,
    http::{API_HEADERS, HttpRequest, HttpResponse, StaticHeader},
    secret::Secret,
    track::{Direction, Kind},
};

#[cfg(test)]
mod tests;

const HEADERS: [StaticHeader; 3] = [
    API_HEADERS[0],
    API_HEADERS[1],
    ("Reactor-WebRTC-Version", "1.0"),
];

/// A STUN or TURN server, with one or more addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServer {
    /// As in `stun:host:port`, without credentials.
    pub uris: Vec<String>,
    pub username: Option<String>,
    pub password: Option<Secret>,
}

/// Which track of the model's an m-section of the offer is for.
///
/// The server matches what it receives by order per kind, not by mid: keep the
/// list in the order of the m-sections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackMapping {
    pub mid: String,
    pub name: String,
    pub kind: Kind,
    pub direction: Direction,
}

/// An ICE candidate of the client's (RFC 8839, 5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceCandidate {
    /// As in `candidate:1 1 UDP 2015363327 10.0.0.1 51820 typ host`.
    pub candidate: String,
    /// Which m-section of the offer it is for.
    pub sdp_mid: String,
    pub sdp_mline_index: u32,
}

/// The server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdpAnswer {
    pub sdp: String,
    /// The id to use from now on, which may be another than was offered on.
    pub connection_id: Option<u32>,
}

#[derive(Deserialize)]
struct IceServers {
    ice_servers: Vec<WireIceServer>,
}

#[derive(Deserialize)]
struct WireIceServer {
    uris: Vec<String>,
    credentials: Option<Credentials>,
}

#[derive(Deserialize)]
struct Credentials {
    username: String,
    password: Secret,
}

/// The signaling calls of one session.
#[derive(Debug, Clone)]
pub struct Signaling {
    endpoint: Endpoint,
    session_id: String,
}

impl Signaling {
    /// `endpoint` is the base of the HTTP API, not of the session.
    pub fn new(endpoint: Endpoint, session_id: &str) -> Self {
        Self {
            endpoint,
            session_id: session_id.to_owned(),
        }
    }

    /// The ICE servers that the session recommends; may be none.
    pub async fn ice_servers(&self) -> Result<Vec<IceServer>, Error> {
        let reply = self
            .call(Method::GET, &["ice_servers"], "ice_servers", None)
            .await?;
        parse_ice_servers(reply.json()?)
            .ok_or_else(|| reply.protocol_error("the list of ICE servers is malformed"))
    }

    /// Reserves a connection and returns its id.
    pub async fn register(&self) -> Result<u32, Error> {
        let reply = self
            .call(
                Method::POST,
                &["connections"],
                "connections",
                Some(json!({})),
            )
            .await?;
        let body = reply.json()?;
        connection_id(&reply, body.get("connection_id"))?
            .ok_or_else(|| reply.protocol_error("the answer has no connection id"))
    }

    /// Hands over an offer.
    ///
    /// `server_ice_servers` replaces the servers that the *server* gathers
    /// with; an empty list spares it a search of up to 3 s. `resume` offers
    /// anew on a connection that had an answer before.
    pub async fn offer(
        &self,
        connection_id: u32,
        sdp: &str,
        mapping: &[TrackMapping],
        server_ice_servers: Option<&[IceServer]>,
        resume: bool,
    ) -> Result<(), Error> {
        let tracks: Vec<_> = mapping
            .iter()
            .map(|track| {
                json!({
                    "mid": track.mid,
                    "name": track.name,
                    "kind": track.kind.as_str(),
                    "direction": track.direction.as_str(),
                })
            })
            .collect();
        let mut body = json!({
            "sdp_offer": sdp,
            "track_mapping": tracks,
            "client_info": client_info(),
        });
        if let Some(servers) = server_ice_servers {
            body["ice_servers"] = servers.iter().map(wire_ice_server).collect();
        }
        let method = if resume { Method::PUT } else { Method::POST };
        let path = ["connections", &connection_id.to_string(), "sdp_params"];
        self.call(method, &path, "sdp_params", Some(body)).await?;
        Ok(())
    }

    /// Hands over candidates that were found after the offer, or, with `is_final`,
    /// that there are no more.
    pub async fn candidates(
        &self,
        connection_id: u32,
        candidates: &[IceCandidate],
        is_final: bool,
    ) -> Result<(), Error> {
        let candidates: Vec<_> = candidates
            .iter()
            .map(|candidate| {
                json!({
                    "candidate": candidate.candidate,
                    "sdp_mid": candidate.sdp_mid,
                    "sdp_mline_index": candidate.sdp_mline_index,
                })
            })
            .collect();
        let body = json!({
            "candidates": candidates,
            "is_final": is_final,
            "client_info": client_info(),
        });
        let path = ["connections", &connection_id.to_string(), "ice_candidates"];
        self.call(Method::POST, &path, "ice_candidates", Some(body))
            .await?;
        Ok(())
    }

    /// Asks once for the answer; `None` while there is none yet.
    ///
    /// A server hands its answer out once: never ask twice at a time, and
    /// offer anew if a reply is lost. A failed negotiation stays `None`.
    pub async fn answer(&self, cid: u32) -> Result<Option<SdpAnswer>, Error> {
        let path = ["connections", &cid.to_string(), "sdp_params"];
        let reply = self.call(Method::GET, &path, "sdp_params", None).await?;
        if reply.status == 202 {
            return Ok(None);
        }
        let body = reply.json()?;
        let sdp = body
            .get("sdp_answer")
            .and_then(Value::as_str)
            .filter(|sdp| !sdp.is_empty())
            .ok_or_else(|| reply.protocol_error("the answer holds no SDP"))?;
        Ok(Some(SdpAnswer {
            sdp: sdp.to_owned(),
            connection_id: connection_id(&reply, body.get("connection_id"))?,
        }))
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        operation: &'static str,
        body: Option<Value>,
    ) -> Result<HttpResponse, Error> {
        let mut segments = vec!["sessions", &self.session_id, "transport", "webrtc"];
        segments.extend(path);
        let call = HttpRequest {
            method,
            path: &segments,
            operation,
            headers: &HEADERS,
            body,
        };
        self.endpoint.send(call).await
    }
}

/// The servers in the reply to a request for them; `None` if it is malformed.
pub fn parse_ice_servers(reply: Value) -> Option<Vec<IceServer>> {
    let server = |server: WireIceServer| {
        let (username, password) = server.credentials.map(|c| (c.username, c.password)).unzip();
        IceServer {
            uris: server.uris,
            username,
            password,
        }
    };
    let list: IceServers = serde_json::from_value(reply).ok()?;
    Some(list.ice_servers.into_iter().map(server).collect())
}

fn client_info() -> Value {
    json!({
        "sdk_version": env!("CARGO_PKG_VERSION"),
        "sdk_type": "gstreamer",
    })
}

/// A connection id is a number from 1 to 65535, if it is there at all.
fn connection_id(reply: &HttpResponse, value: Option<&Value>) -> Result<Option<u32>, Error> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_u64()
            .and_then(|id| u16::try_from(id).ok())
            .filter(|id| *id != 0)
            .map(|id| Some(u32::from(id)))
            .ok_or_else(|| reply.protocol_error("the connection id is not between 1 and 65535")),
    }
}

fn wire_ice_server(server: &IceServer) -> Value {
    let mut value = json!({ "uris": server.uris });
    if let (Some(username), Some(password)) = (&server.username, &server.password) {
        value["credentials"] = json!({ "username": username, "password": password.expose() });
    }
    value
}
