// SPDX-License-Identifier: MIT

use super::*;
use crate::platform::{
    Code,
    http::testing::{Act, Server, json as json_reply, reply},
};

async fn signaling(script: impl IntoIterator<Item = Act>) -> (Server, Signaling) {
    let server = Server::start(script).await;
    let signaling = Signaling::new(server.endpoint(), "the id");
    (server, signaling)
}

#[tokio::test]
async fn ice_servers_are_listed() {
    let (server, signaling) = signaling([
        json_reply(
            200,
            json!({"ice_servers": [
                {"uris": ["stun:h:1"]},
                {"uris": ["turn:h:2", "turns:h:3"], "more": 1,
                 "credentials": {"username": "u", "password": "hunter2"}},
            ]}),
        ),
        json_reply(200, json!({"ice_servers": []})),
        json_reply(
            200,
            json!({"ice_servers": [{"uris": ["turn:h"],
            "credentials": {"username": "u", "password": {"hunter2": 1}}}]}),
        ),
    ])
    .await;
    let list = signaling.ice_servers().await.unwrap();
    assert_eq!(list[0].uris, ["stun:h:1"]);
    assert_eq!(list[0].username, None);
    assert_eq!(list[1].uris.len(), 2);
    assert_eq!(list[1].username.as_deref(), Some("u"));
    assert_eq!(list[1].password.as_ref().unwrap().expose(), "hunter2");
    assert!(!format!("{list:?}").contains("hunter2"));
    let request = &server.requests()[0];
    let line = "GET /sessions/the%20id/transport/webrtc/ice_servers HTTP/1.1\r\n";
    assert!(request.starts_with(line), "{request}");
    assert!(request.contains("reactor-webrtc-version: 1.0\r\n"));

    assert_eq!(signaling.ice_servers().await.unwrap(), []);
    let error = signaling.ice_servers().await.unwrap_err();
    assert_eq!(error.code, Code::DecodeFailed);
    assert!(!error.message.contains("hunter2"));
}

#[tokio::test]
async fn connection_registered_returns_id() {
    let good = json_reply(
        201,
        json!({"connection_id": 5029, "track_map": {"v": {"kind": "video"}}}),
    );
    let (server, signaling) = signaling([good]).await;
    assert_eq!(signaling.register().await.unwrap(), 5029);
    let line = "POST /sessions/the%20id/transport/webrtc/connections ";
    assert!(server.requests()[0].starts_with(line));
    assert_eq!(server.body(0), json!({}));
}

#[tokio::test]
async fn connection_id_out_of_range_is_refused() {
    for id in [
        json!(0),
        json!(65536),
        json!(-1),
        json!(1.5),
        json!("7"),
        json!([]),
        json!(null),
    ] {
        let body = json_reply(201, json!({ "connection_id": id }));
        let (_server, signaling) = signaling([body]).await;
        let error = signaling.register().await.unwrap_err();
        assert_eq!(error.code, Code::DecodeFailed, "{id}");
        assert_eq!(error.operation, Some("connections"));
    }
    let body = json!({"sdp_answer": "v=0", "connection_id": 70000});
    let (_server, signaling) = signaling([json_reply(200, body)]).await;
    let error = signaling.answer(1).await.unwrap_err();
    assert_eq!(error.code, Code::DecodeFailed);
}

#[tokio::test]
async fn offer_sends_sdp_and_track_mapping() {
    let accepted = || json_reply(202, json!({"connection_id": 7}));
    let (server, signaling) = signaling([accepted(), accepted(), accepted()]).await;
    let mapping = [TrackMapping {
        mid: "video0".to_owned(),
        name: "main_video".to_owned(),
        kind: Kind::Video,
        direction: Direction::RecvOnly,
    }];
    let offer = async |servers, resume| {
        let result = signaling.offer(7, "v=0\r\n", &mapping, servers, resume);
        result.await.unwrap();
    };
    offer(Some(&[][..]), false).await;
    let path = "/sessions/the%20id/transport/webrtc/connections/7/sdp_params ";
    assert!(server.requests()[0].starts_with(&format!("POST {path}")));
    let body = server.body(0);
    assert_eq!(body["sdp_offer"], "v=0\r\n");
    assert_eq!(body["ice_servers"], json!([]));
    assert_eq!(body["client_info"]["sdk_type"], "gstreamer");
    assert_eq!(
        body["track_mapping"],
        json!([{"mid": "video0", "name": "main_video", "kind": "video",
            "direction": "recvonly"}])
    );

    offer(None, true).await;
    assert!(server.requests()[1].starts_with(&format!("PUT {path}")));
    assert!(server.body(1).get("ice_servers").is_none());

    let turn = IceServer {
        uris: vec!["turn:h".to_owned()],
        username: Some("u".to_owned()),
        password: Some(Secret::new("p")),
    };
    offer(Some(&[turn][..]), false).await;
    assert_eq!(
        server.body(2)["ice_servers"],
        json!([{"uris": ["turn:h"], "credentials": {"username": "u", "password": "p"}}])
    );
}

#[tokio::test]
async fn candidates_are_sent_with_their_m_section() {
    let accepted = || reply(202, "", "");
    let gone = json_reply(404, json!({"detail": "Connection 7 not found"}));
    let (server, signaling) = signaling([accepted(), accepted(), gone]).await;
    let text = "candidate:1 1 UDP 2015363327 10.0.0.1 51820 typ host";
    let candidate = IceCandidate {
        candidate: text.to_owned(),
        sdp_mid: "video0".to_owned(),
        sdp_mline_index: 0,
    };
    signaling.candidates(7, &[candidate], false).await.unwrap();
    let line = "POST /sessions/the%20id/transport/webrtc/connections/7/ice_candidates ";
    assert!(server.requests()[0].starts_with(line));
    let body = server.body(0);
    assert_eq!(
        body["candidates"],
        json!([{"candidate": text, "sdp_mid": "video0", "sdp_mline_index": 0}])
    );
    assert_eq!(body["is_final"], false);
    assert_eq!(body["client_info"]["sdk_type"], "gstreamer");

    signaling.candidates(7, &[], true).await.unwrap();
    assert_eq!(server.body(1)["candidates"], json!([]));
    assert_eq!(server.body(1)["is_final"], true);

    let error = signaling.candidates(7, &[], true).await.unwrap_err();
    assert_eq!(error.code, Code::NotFound);
    assert_eq!(error.operation, Some("ice_candidates"));
}

#[tokio::test]
async fn answer_poll_returns_sdp_once_ready() {
    let (_server, signaling) = signaling([
        reply(202, "", ""),
        json_reply(200, json!({"sdp_answer": "v=0", "connection_id": 8})),
        json_reply(200, json!({"sdp_answer": "v=0"})),
        json_reply(200, json!({"sdp_answer": ""})),
        json_reply(200, json!({"sdp_answer": 1})),
        json_reply(400, json!({"detail": "No session running"})),
    ])
    .await;
    assert_eq!(signaling.answer(7).await.unwrap(), None);
    let answer = signaling.answer(7).await.unwrap().unwrap();
    assert_eq!((&*answer.sdp, answer.connection_id), ("v=0", Some(8)));
    let answer = signaling.answer(7).await.unwrap().unwrap();
    assert_eq!(answer.connection_id, None);
    for _ in 0..2 {
        let error = signaling.answer(7).await.unwrap_err();
        assert_eq!(error.code, Code::DecodeFailed);
    }
    let error = signaling.answer(7).await.unwrap_err();
    assert_eq!(error.code, Code::BadRequest);
    assert!(error.message.ends_with("No session running"), "{error}");
}
