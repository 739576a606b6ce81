// SPDX-License-Identifier: MIT

//! The test data are two offers and what runtime 3.10.0 answered to them.

use super::*;
use crate::platform::{
    Code, Error,
    track::{Direction, Kind},
};

const OFFER: &str = include_str!("testdata/offer.sdp");
const ANSWER: &str = include_str!("testdata/answer.sdp");
const OFFER_H264: &str = include_str!("testdata/offer264.sdp");
const ANSWER_H264: &str = include_str!("testdata/answer264.sdp");
const PEM: &str = include_str!("testdata/certificate.pem");
const FINGERPRINT: &str = "a=fingerprint:sha-256 9A:83:7E:8B:A2:9A:24:CE:9F:52:C6:16:03:A2:5C:67:\
    AA:FF:AD:99:1F:DD:5F:AE:56:6F:25:24:79:CC:61:F2\n";

const UNBOUNDED: ReceiveBitrates = ReceiveBitrates {
    start: None,
    max_video: None,
};

fn bounded(max_video: u32) -> ReceiveBitrates {
    ReceiveBitrates {
        max_video: Some(max_video),
        ..UNBOUNDED
    }
}

fn check(answer: &str) -> Result<NegotiatedAnswer, Error> {
    parse_answer(answer, &offered_sections(OFFER).unwrap())
}

#[track_caller]
fn fails(answer: &str, code: Code) -> String {
    assert_ne!(answer, ANSWER, "nothing was changed");
    let error = check(answer).unwrap_err();
    assert_eq!(error.code, code, "{error}");
    assert_eq!(error.operation, Some("sdp_params"));
    assert!(error.message.len() < 600 && !error.message.contains(char::is_control));
    error.message
}

/// The answer, with `change` applied to its n-th m-section.
fn changed(n: usize, change: impl Fn(&str) -> String) -> String {
    let mut parts: Vec<String> = ANSWER.split("m=").map(str::to_owned).collect();
    let changed = change(&format!("m={}", parts[n + 1]));
    match changed.strip_prefix("m=") {
        Some(part) => parts[n + 1] = part.to_owned(),
        None => drop(parts.remove(n + 1)),
    }
    parts.join("m=")
}

#[test]
fn offer_sections_are_read_in_order() {
    let sections = offered_sections(OFFER).unwrap();
    let mids: Vec<_> = sections.iter().map(|s| s.mid.as_str()).collect();
    assert_eq!(mids, ["video0", "video1", "audio2", "application3"]);
    assert_eq!(sections[0].direction, Some(Direction::SendOnly));
    assert_eq!(sections[1].direction, Some(Direction::RecvOnly));
    assert_eq!(sections[1].kind, Some(Kind::Video));
    assert_eq!(sections[1].mline_index, 1);
    assert!(sections.iter().all(|s| s.bundled));
    let names: Vec<_> = sections[1].codecs.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["VP8", "VP9", "H264"]);
    assert_eq!(
        sections[1].codecs[2].fmtp[0],
        ("packetization-mode".to_owned(), "1".to_owned())
    );
    let opus = &sections[2].codecs[0];
    assert_eq!(
        (opus.name.as_str(), opus.clock_rate, opus.channels),
        ("OPUS", 48_000, Some(2))
    );
    let data = &sections[3];
    assert_eq!((data.kind, data.direction), (None, None));
    assert!(data.codecs.is_empty());
}

#[test]
fn prepared_offer_has_session_attributes() {
    let plain = OFFER.replace(
        "a=x-reactor-dc-chunking:1 max-message-size=67108864\n",
        "\n",
    );
    let attribute = "x-reactor-dc-chunking:1 max-message-size=67108864";
    let offer = prepare_offer(&plain, &[attribute, "a=other"], UNBOUNDED).unwrap();
    let session = format!("\r\na={attribute}\r\na=other\r\nm=video 9 ");
    assert!(offer.contains(&session), "{offer}");
    assert_eq!(offer.matches(attribute).count(), 1);
    assert_eq!(offer.matches('\n').count(), offer.matches("\r\n").count());
    assert!(offer.ends_with("\r\n") && !offer.contains("\r\n\r\n"));
    assert_eq!(prepare_offer(&offer, &[], UNBOUNDED).unwrap(), offer);
    offered_sections(&offer).unwrap();

    for bad in [
        plain.replace("a=recvonly", "a=sendrecv"),
        plain.replace("a=recvonly\n", ""),
        plain.replace("a=recvonly", "a=inactive"),
        plain.replace("a=recvonly", "a=recvonly\na=sendonly"),
        plain.replace("mid:video1", "mid:video0"),
        plain.replace("a=mid:video1\n", ""),
        plain.replace("m=audio", "m=smell"),
        "v=0\n".to_owned(),
        String::new(),
    ] {
        let error = prepare_offer(&bad, &[], UNBOUNDED).unwrap_err();
        assert_eq!(error.code, Code::Internal, "{error}");
    }
    for bad in ["", "a=", "x\r\na=y"] {
        assert_eq!(
            prepare_offer(&plain, &[bad], UNBOUNDED).unwrap_err().code,
            Code::Internal
        );
    }
}

#[test]
fn recorded_answer_is_accepted() {
    for text in [ANSWER.to_owned(), ANSWER.replace('\n', "\r\n")] {
        let answer = check(&text).unwrap();
        assert_eq!(answer.chunking, Some(67_108_864));
        assert_eq!(answer.max_message_size, None);
        assert_eq!(answer.fingerprint.algorithm, "sha-256");
        assert_eq!(answer.fingerprint.digest[..2], [0x9a, 0x83]);
        let names = |n: usize| -> Vec<_> {
            let codecs = answer.tracks[n].codecs.iter();
            codecs.map(|c| (c.payload, c.name.as_str())).collect()
        };
        assert_eq!(answer.tracks.len(), 3);
        assert_eq!(names(1), [(97, "VP9"), (96, "VP8")]);
        assert_eq!(names(2), [(111, "OPUS")]);
        let vp9 = &answer.tracks[1].codecs[0];
        assert_eq!(vp9.fmtp, [("profile-id".to_owned(), "0".to_owned())]);
        assert_eq!(answer.tracks[1].direction, Direction::RecvOnly);
        // Nothing but line ends differs.
        assert_eq!(answer.sdp, ANSWER.replace('\n', "\r\n"));
        assert_eq!(check(&answer.sdp).unwrap(), answer);
    }
}

#[test]
fn unknown_attributes_are_kept() {
    let text = ANSWER
        .replace(
            "a=setup:active\n",
            "a=setup:active\na=x-new:1 2\na=x-flag\n",
        )
        .replace("t=0 0\n", "t=0 0\na=x-session\n");
    let sdp = check(&text).unwrap().sdp;
    assert_eq!(sdp.matches("a=x-new:1 2\r\na=x-flag\r\n").count(), 4);
    assert!(sdp.contains("a=x-session\r\n"));
}

#[test]
fn rejected_track_is_named() {
    let offered = offered_sections(OFFER_H264).unwrap();
    let error = parse_answer(ANSWER_H264, &offered).unwrap_err();
    assert_eq!(error.code, Code::TrackRejected);
    for part in [
        "video",
        "video1",
        "m-section 1",
        "offered H264",
        "supports none",
    ] {
        assert!(error.message.contains(part), "{error}");
    }
}

#[test]
fn unusable_track_is_rejected() {
    let rejected = |change: fn(&str) -> String| {
        let message = fails(&changed(1, change), Code::TrackRejected);
        assert!(message.contains("mid video1"), "{message}");
        assert!(message.contains("VP8, VP9, H264"), "{message}");
    };
    rejected(|m| m.replace("m=video 9", "m=video 0"));
    rejected(|m| m.replace("a=sendonly", "a=inactive"));
    rejected(|m| m.replace("VP9/", "AV1/").replace("VP8/", "H265/"));
    rejected(|m| m.replace("SAVPF 97 96 99", "SAVPF 99"));
    rejected(|m| m.replace("SAVPF 97 96 99", "SAVPF 0"));
    rejected(|m| m.replace("a=rtpmap:", "a=rtqmap:"));
    rejected(|m| {
        m.replace("VP9/90000", "VP9/8000")
            .replace("VP8/90000", "VP8/1")
    });
    rejected(|_| String::new());
    let audio = changed(2, |m| m.replace("48000/2", "48000"));
    assert!(fails(&audio, Code::TrackRejected).contains("mid audio2"));
}

#[test]
fn answer_without_data_channels_is_refused() {
    let fails = |change: fn(&str) -> String| fails(&changed(3, change), Code::TransportError);
    fails(|m| m.replace("m=application 9", "m=application 0"));
    fails(|_| String::new());
    fails(|m| m.replace("a=sctp-port:5000\n", ""));
    fails(|m| m.replace("port:5000", "port:0"));
    fails(|m| m.replace("port:5000", "port:99999"));
    fails(|m| m.replace("UDP/DTLS/SCTP", "UDP/TLS/RTP/SAVPF"));
}

#[test]
fn answer_of_wrong_structure_is_refused() {
    let extra = format!("{ANSWER}m=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:more\n");
    let swapped = ANSWER
        .replace("mid:video0", "mid:x")
        .replace("mid:video1", "mid:video0")
        .replace("mid:x", "mid:video1");
    let reordered = {
        let parts: Vec<_> = ANSWER.split("m=").collect();
        [parts[0], parts[1], parts[3], parts[2], parts[4]].join("m=")
    };
    let long = format!("{ANSWER}a=x:{}\n", "y".repeat(256 << 10));
    for text in [
        "",
        "nonsense",
        "v=1\n",
        "v=0\no=\u{7}\u{1b}[31m\n",
        &extra,
        &swapped,
        &reordered,
        &long,
        &ANSWER.replace("m=audio", "m=video"),
        &ANSWER.replace("m=audio", "m=text"),
        &ANSWER.replace("m=audio 9", "m=audio 99999"),
        &ANSWER.replace("a=mid:audio2\n", ""),
        &ANSWER.replace("a=mid:audio2\n", "a=mid:audio2\na=mid:other\n"),
        &ANSWER.replace("UDP/TLS/RTP/SAVPF 111", "RTP/AVP 111"),
        &ANSWER.replace("a=rtcp-mux\n", ""),
        &ANSWER
            .replace("111 OPUS/48000/2", "96 OPUS/48000/2")
            .replace("F 111", "F 96"),
        &ANSWER.replace("\na=sctp-port", "\na=max-message-size:many\na=sctp-port"),
    ] {
        fails(text, Code::DecodeFailed);
    }
}

/// Also of codecs and streams that are not used: webrtcbin computes with them.
#[test]
fn answer_with_numbers_that_make_no_sense_is_refused() {
    for line in [
        "a=rtpmap:97 VP8/0",
        "a=rtpmap:97 VP8",
        "a=rtpmap:97 VP8/-90000",
        "a=rtpmap:97 VP8/4294967295",
        "a=rtpmap:97 OPUS/48000/0",
        "a=rtpmap:300 VP8/90000",
        "a=rtpmap:97",
        "a=ssrc:4294967296 cname:x",
        "a=ssrc:-1",
        "a=ssrc",
        "a=ssrc-group:FID 1 4294967296",
    ] {
        let text = ANSWER.replace("a=mid:video1\n", &format!("a=mid:video1\n{line}\n"));
        assert_ne!(text, ANSWER);
        fails(&text, Code::DecodeFailed);
    }
    let valid = "a=mid:video1\na=rtpmap:97 L16/48000/2\na=ssrc:4294967295 cname:x\n\
                 a=ssrc-group:FID 1 4294967295\n";
    parse_answer(
        &ANSWER.replace("a=mid:video1\n", valid),
        &offered_sections(OFFER).unwrap(),
    )
    .unwrap();
}

#[test]
fn answer_direction_must_mirror_offer() {
    for direction in [
        "a=sendrecv\n",
        "a=recvonly\n",
        "",
        "a=sendonly\na=inactive\n",
    ] {
        let text = changed(1, |m| m.replace("a=sendonly\n", direction));
        fails(&text, Code::DecodeFailed);
    }
    for direction in ["a=sendrecv\n", "a=sendonly\n"] {
        let text = changed(0, |m| m.replace("a=recvonly\n", direction));
        fails(&text, Code::DecodeFailed);
    }
    let session =
        changed(0, |m| m.replace("a=recvonly\n", "")).replace("t=0 0\n", "t=0 0\na=recvonly\n");
    check(&session).unwrap();
}

#[test]
fn answer_bundle_must_fit_offer() {
    for group in [
        "BUNDLE",
        "BUNDLE ",
        "BUNDLE video0 video1 audio2",
        "BUNDLE video0 video1 audio2 application3 more",
        "BUNDLE video0 video0 audio2 application3",
        "LS video0 video1",
        "BUNDLE video0 video1\na=group:BUNDLE audio2 application3",
    ] {
        let text = ANSWER.replace("BUNDLE video0 video1 audio2 application3", group);
        fails(&text, Code::DecodeFailed);
    }
    fails(
        &changed(2, |m| m.replace("ufrag:lLb4", "ufrag:other")),
        Code::DecodeFailed,
    );
}

#[test]
fn answer_without_ice_or_dtls_is_refused() {
    for (from, to) in [
        ("a=ice-ufrag:lLb4\n", ""),
        ("a=ice-pwd:Vprlyob7QcihNKSebQJoYyEt\n", ""),
        ("ufrag:lLb4\n", "ufrag:\n"),
        ("ufrag:lLb4\n", "ufrag:l!b4\n"),
        ("pwd:Vprlyob7QcihNKSebQJoYyEt", "pwd:short"),
        ("a=setup:active\n", ""),
        ("setup:active", "setup:actpass"),
        ("setup:active", "setup:holdconn"),
    ] {
        fails(&ANSWER.replace(from, to), Code::DecodeFailed);
    }
}

#[test]
fn transport_attributes_are_written_into_every_section() {
    let lines = [
        "a=ice-ufrag:lLb4\n",
        "a=ice-pwd:Vprlyob7QcihNKSebQJoYyEt\n",
        "a=setup:active\n",
        FINGERPRINT,
    ];
    // As RFC 8829 has it: once, in the first section of the group; or at
    // session level.
    let mut bare = ANSWER.to_owned();
    for line in lines {
        assert_eq!(bare.matches(line).count(), 4);
        bare = bare.replace(line, "");
    }
    let first = bare.replacen(
        "a=mid:video0\n",
        &format!("a=mid:video0\n{}", lines.concat()),
        1,
    );
    let session = bare.replacen("t=0 0\n", &format!("t=0 0\n{}", lines.concat()), 1);
    for text in [first, session] {
        let sdp = check(&text).unwrap().sdp;
        let (head, rest) = sdp.split_once("m=").unwrap();
        assert!(!head.contains("a=setup"), "{head}");
        for line in lines {
            let line = line.trim_end();
            assert_eq!(rest.matches(line).count(), 4, "{line}");
        }
    }
    fails(&bare, Code::IdentityMismatch);
}

#[test]
fn answer_needs_one_reliable_fingerprint() {
    let other = FINGERPRINT.replace("9A:83", "00:00");
    let sha1 = "a=fingerprint:sha-1 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13\n";
    let with = |replacement: &str| ANSWER.replace(FINGERPRINT, replacement);
    for text in [
        with(""),
        with(sha1),
        with(&sha1.replace("sha-1", "md5")),
        with(&format!("{FINGERPRINT}{other}")),
        with(&FINGERPRINT.replace(":F2", "")),
        with(&FINGERPRINT.replace(":F2", ":F2:00")),
        with(&FINGERPRINT.replace(":F2", ":XY")),
        with(&FINGERPRINT.replace(":F2", ":+2")),
        with(&FINGERPRINT.replace("sha-256", "sha-512")),
        with("a=fingerprint\n"),
        with("a=fingerprint:sha-256\n"),
        changed(2, |m| m.replace(FINGERPRINT, &other)),
        changed(2, |m| m.replace(FINGERPRINT, sha1)),
    ] {
        fails(&text, Code::IdentityMismatch);
    }
    let expected = check(ANSWER).unwrap().fingerprint;
    for text in [
        with(&format!("{sha1}{FINGERPRINT}{FINGERPRINT}")),
        with(&FINGERPRINT.to_ascii_lowercase()),
        with(&FINGERPRINT.replace("sha-256", "SHA-256")),
    ] {
        assert_eq!(check(&text).unwrap().fingerprint, expected);
    }
}

#[test]
fn malformed_chunking_attribute_is_refused() {
    let line = "a=x-reactor-dc-chunking:1 max-message-size=67108864\n";
    let chunking = |to: &str| check(&ANSWER.replace(line, to)).map(|answer| answer.chunking);
    assert_eq!(chunking("").unwrap(), None);
    let short = "a=x-reactor-dc-chunking:1 new max-message-size=5\n";
    assert_eq!(chunking(short).unwrap(), Some(5));
    for (to, code) in [
        ("2 max-message-size=5", Code::VersionMismatch),
        ("1", Code::DecodeFailed),
        ("1 max-message-size=0", Code::DecodeFailed),
        ("1 max-message-size=-1", Code::DecodeFailed),
    ] {
        let to = format!("a=x-reactor-dc-chunking:{to}\n");
        assert_eq!(chunking(&to).unwrap_err().code, code);
    }
    let sized = ANSWER.replace("a=sctp-port", "a=max-message-size:262144\na=sctp-port");
    assert_eq!(check(&sized).unwrap().max_message_size, Some(262_144));
}

#[test]
fn frame_metadata_needs_attribute_in_answer() {
    assert!(!check(ANSWER).unwrap().frame_metadata);
    let with = |line: &str| {
        let text = ANSWER.replacen("m=video", &format!("a={line}\nm=video"), 1);
        check(&text).unwrap().frame_metadata
    };
    assert!(with("x-reactor-frame-metadata:1"));
    for other in [
        "x-reactor-frame-metadata",
        "x-reactor-frame-metadata:2",
        "x-reactor-frame-metadata:10",
        "x-reactor-frame-metadata-x:1",
    ] {
        assert!(!with(other), "{other}");
    }
    // It is one of the session's.
    let text = ANSWER.replace("a=rtcp-mux", "a=x-reactor-frame-metadata:1\na=rtcp-mux");
    assert!(!check(&text).unwrap().frame_metadata);
}

#[test]
fn unusable_candidates_are_removed() {
    let good = "a=candidate:1 1 UDP 99 10.0.0.1 5 typ srflx raddr 0.0.0.0 rport 0\n\
        a=candidate:1 1 udp 99 2001:db8::1 5 typ host generation 0\n";
    let bad = [
        "a=candidate:1 1 udp 99 abc.local 5 typ host",
        "a=candidate:1 1 udp 99 example.com 5 typ host",
        "a=candidate:1 1 udp 99 fe80::1%eth0 5 typ host",
        "a=candidate:1 1 udp 99 0.0.0.0 5 typ host",
        "a=candidate:1 1 udp 99 239.1.1.1 5 typ host",
        "a=candidate:1 1 udp 99 ff02::1 5 typ host",
        "a=candidate:1 1 udp 99 255.255.255.255 5 typ host",
        "a=candidate:1 1 udp 99 10.0.0.1 0 typ host",
        "a=candidate:1 1 udp 99 10.0.0.1 65536 typ host",
        "a=candidate:1 1 udp 99 10.0.0.1 5",
        "a=candidate:1 1 udp 99 10.0.0.1 5 typ moon",
        "a=candidate:1 1 sctp 99 10.0.0.1 5 typ host",
        "a=candidate:1 0 udp 99 10.0.0.1 5 typ host",
        "a=candidate:1 1 udp 0 10.0.0.1 5 typ host",
        "a=candidate:1 1 udp 4294967296 10.0.0.1 5 typ host",
        "a=candidate:a%s 1 udp 99 10.0.0.1 5 typ host",
        "a=candidate:",
        "a=candidate",
    ];
    let media = format!("{good}{}\na=candidate", bad.join("\n"));
    let sdp = check(&ANSWER.replacen("a=candidate", &media, 1))
        .unwrap()
        .sdp;
    let before = check(ANSWER).unwrap().sdp;
    let left = |sdp: &str| sdp.matches("a=candidate").count();
    assert_eq!(left(&sdp), left(&before) + 2);
    for line in good.lines() {
        assert!(sdp.contains(line), "{line}");
    }
    for line in bad {
        assert!(!sdp.contains(&format!("{line}\r\n")), "{line}");
    }
}

/// webrtcbin 1.22 would resolve their names.
#[test]
fn candidates_of_session_are_removed() {
    for candidate in [
        "1 1 udp 99 example.com 5 typ host",
        "1 1 udp 99 10.0.0.1 5 typ host",
    ] {
        let text = ANSWER.replacen("m=", &format!("a=candidate:{candidate}\nm="), 1);
        assert_eq!(check(&text).unwrap().sdp, check(ANSWER).unwrap().sdp);
    }
}

#[test]
fn number_of_candidates_is_limited() {
    let many = "a=candidate:1 1 udp 99 10.0.0.1 5 typ host\n".repeat(500);
    let text = ANSWER.replacen("a=candidate", &format!("{many}a=candidate"), 1);
    let sdp = check(&text).unwrap().sdp;
    assert_eq!(sdp.matches("a=candidate:1 1 udp 99 ").count(), 100);
}

#[test]
fn certificate_unlike_fingerprint_is_refused() {
    let digests = [
        "sha-256 24:9E:2C:68:B9:2C:80:E9:0B:DE:28:39:BD:74:5A:27:3E:B7:94:B2:D4:DF:16:4C:24:EB:F5:A0:50:A3:B1:22",
        "sha-384 57:71:13:95:48:03:26:07:B6:69:4E:23:C6:26:58:6B:4C:CB:7B:CD:CD:EC:14:D2:3B:7C:BE:9F:DF:3D:7C:4D:CD:86:92:C2:92:F6:38:85:03:5A:B8:31:9A:09:2C:D9",
        "sha-512 25:CA:BD:6F:9B:1B:8C:C4:D7:B4:BB:7B:13:BE:14:5D:B9:6A:83:D2:91:66:A8:D6:6F:E9:83:D0:25:E9:F9:49:BF:DE:B2:CB:03:B0:1C:8A:9C:0F:6C:D2:23:B1:32:1E:8F:4A:F2:5A:14:D0:01:6B:13:7C:E8:AF:31:A6:EB:65",
    ];
    for digest in digests {
        let line = format!("a=fingerprint:{digest}\n");
        let fingerprint = check(&ANSWER.replace(FINGERPRINT, &line))
            .unwrap()
            .fingerprint;
        fingerprint.matches_pem(PEM).unwrap();
        let mut wrong = fingerprint;
        wrong.digest[0] ^= 1;
        let error = wrong.matches_pem(PEM).unwrap_err();
        assert_eq!(error.code, Code::IdentityMismatch);
        assert!(error.message.len() < 200 && !error.message.contains("BEGIN"));
        for text in [
            "",
            "garbage",
            &PEM.replace("CERTIFICATE", "PRIVATE KEY"),
            &PEM[..200],
        ] {
            let error = wrong.matches_pem(text).unwrap_err();
            assert_eq!(error.code, Code::IdentityMismatch);
        }
    }
}

#[test]
fn received_video_has_its_share_of_the_bandwidth() {
    let offer = prepare_offer(OFFER, &[], bounded(600_999)).unwrap();
    assert_eq!(offer.matches("b=").count(), 1, "{offer}");
    let section = offer.split("m=").nth(2).unwrap();
    let connection = "\r\nc=IN IP4 0.0.0.0\r\nb=AS:600\r\na=";
    assert!(section.contains(connection) && section.contains("a=recvonly"));
    // Two tracks; and never nothing.
    let two = OFFER.replace("a=sendonly", "a=recvonly");
    let offer = prepare_offer(&two, &[], bounded(600_000)).unwrap();
    assert_eq!(offer.matches("\r\nb=AS:300\r\n").count(), 2);
    let offer = prepare_offer(&two, &[], bounded(1)).unwrap();
    assert_eq!(offer.matches("\r\nb=AS:1\r\n").count(), 2);
}

#[test]
fn all_codecs_have_bitrates_of_connection() {
    let bitrates = ReceiveBitrates {
        start: Some(500_000),
        max_video: Some(300_000),
    };
    // An audio track to receive, too: the bound is that of both.
    let local = OFFER.replace("a=sendonly", "a=recvonly");
    let offer = prepare_offer(&local, &[], bitrates).unwrap();
    let (before, after) = (offered_sections(&local), offered_sections(&offer));
    for (before, after) in before.unwrap().iter().zip(after.unwrap()) {
        for (before, after) in before.codecs.iter().zip(&after.codecs) {
            let parameter = |name: &str, kbits: &str| (name.to_owned(), kbits.to_owned());
            let mut expected = before.fmtp.clone();
            expected.push(parameter("x-google-start-bitrate", "500"));
            expected.push(parameter("x-google-max-bitrate", "390"));
            assert_eq!(after.fmtp, expected, "{offer}");
        }
    }
    // Retransmissions have none.
    let retransmissions = offer.lines().filter(|line| line.contains("apt="));
    assert!(retransmissions.clone().count() > 0);
    assert!(
        retransmissions
            .clone()
            .all(|line| !line.contains("x-google"))
    );
    let lines = |text: &str| text.lines().filter(|l| l.contains("a=fmtp:")).count();
    let offer = prepare_offer(&local, &[], UNBOUNDED).unwrap();
    assert_eq!(lines(&offer), lines(&local));
}

/// An offer with the header extension in its received sections, and an answer that
/// has `line` in them.
fn with_transport_cc(line: &str) -> NegotiatedAnswer {
    let extension = format!("a=extmap:3 {TRANSPORT_CC_URI}");
    let offer = OFFER.replace("a=recvonly\n", &format!("a=recvonly\n{extension}\n"));
    let answer = ANSWER.replace("a=sendonly", &format!("a=sendonly\r\n{line}"));
    parse_answer(&answer, &offered_sections(&offer).unwrap()).unwrap()
}

#[test]
fn header_extension_counts_as_agreed_under_its_id_with_its_feedback() {
    let extension = format!("a=extmap:3 {TRANSPORT_CC_URI}");
    let any_codec = "a=rtcp-fb:* transport-cc";
    for (line, agreed) in [
        (format!("{extension}\r\n{any_codec}"), true),
        (
            format!("a=extmap:3/sendonly {TRANSPORT_CC_URI} x\r\n{any_codec}"),
            true,
        ),
        (
            format!("a=extmap:3/inactive {TRANSPORT_CC_URI}\r\n{any_codec}"),
            false,
        ),
        (
            format!("a=extmap:4 {TRANSPORT_CC_URI}\r\n{any_codec}"),
            false,
        ),
        (format!("a=extmap:3 urn:other\r\n{any_codec}"), false),
        // The test data have the feedback for video.
        (extension, false),
        (any_codec.to_owned(), false),
    ] {
        let answer = with_transport_cc(&line);
        assert_eq!(answer.has_receive_feedback(), Some(agreed), "{line}");
    }
    // Not offered.
    assert_eq!(check(ANSWER).unwrap().has_receive_feedback(), Some(false));
}

#[test]
fn playout_delay_counts_as_agreed_under_its_id() {
    let with = |offered: &str, answered: &str| {
        let offer = OFFER.replace("a=recvonly\n", &format!("a=recvonly\n{offered}\n"));
        let answer = ANSWER.replace("a=sendonly", &format!("a=sendonly\r\n{answered}"));
        let answer = parse_answer(&answer, &offered_sections(&offer).unwrap()).unwrap();
        let received = |t: &&NegotiatedTrack| t.direction == Direction::RecvOnly;
        answer
            .tracks
            .iter()
            .filter(received)
            .all(|t| t.playout_delay)
    };
    let extension = |id: u8| format!("a=extmap:{id} {PLAYOUT_DELAY_URI}");
    assert!(with(&extension(2), &extension(2)));
    assert!(!with(&extension(2), &extension(3)));
    assert!(!with(&extension(2), "a=x-nothing"));
    assert!(!with("a=x-nothing", &extension(2)));
}

/// A small generator (SplitMix64), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit.max(1) as u64) as usize
    }
}

#[test]
fn mutated_answer_never_panics() {
    let offered = offered_sections(OFFER).unwrap();
    let words = [
        "\n",
        "\r\n",
        "\r",
        "\0",
        "a=",
        "m=",
        " ",
        ":",
        "=",
        "0",
        "-1",
        "99999999999999999999",
        "é",
        "\u{202e}",
        "m=video 0 x\n",
        "a=mid:\n",
        "a=group:BUNDLE\n",
        "a=fingerprint:sha-256 \n",
    ];
    let mut random = Random(1);
    let mut accepted = 0;
    for _ in 0..6000 {
        let mut bytes = ANSWER.as_bytes().to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            let end = (at + random.below(60)).min(bytes.len());
            match random.below(5) {
                0 => drop(bytes.drain(at..end)),
                1 => {
                    let word = words[random.below(words.len())];
                    bytes.splice(at..at, word.bytes());
                }
                2 => bytes[at] = random.below(256) as u8,
                3 => {
                    let copy = bytes[at..end].to_vec();
                    let to = random.below(bytes.len());
                    bytes.splice(to..to, copy);
                }
                _ => bytes.truncate(bytes.len() - random.below(bytes.len() / 8)),
            }
            if bytes.is_empty() {
                break;
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let _ = prepare_offer(&text, &["x"], bounded(1));
        match parse_answer(&text, &offered) {
            // What is let through stays acceptable, and the same.
            Ok(answer) => {
                assert_eq!(parse_answer(&answer.sdp, &offered).unwrap(), answer);
                accepted += 1;
            }
            Err(error) => assert!(!error.message.contains(char::is_control), "{error:?}"),
        }
    }
    assert!(accepted > 100, "{accepted}");
}
