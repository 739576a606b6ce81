// SPDX-License-Identifier: MIT

//! Reads media files with ffprobe and ffmpeg.

use std::{path::Path, process::Command};

use crate::{
    audio::{self, AudioChunk},
    frames,
    trend::median,
};

/// The playground's frames per second.
const FPS: u32 = 30;

/// One stream of a file.
#[derive(Debug, Clone)]
pub struct Stream {
    /// `video` or `audio`.
    pub kind: String,
    pub codec: String,
    pub width: usize,
    pub height: usize,
    /// From the first packet to the end of the last, in seconds.
    pub duration: f64,
}

/// The streams of a file; panics if ffprobe reports an error.
pub fn probe(path: &Path) -> Vec<Stream> {
    let json: serde_json::Value = serde_json::from_slice(&run(Command::new("ffprobe")
        .args(["-v", "error", "-print_format", "json", "-show_streams"])
        .arg(path)))
    .expect("JSON");
    let streams = json["streams"].as_array().expect("streams");
    streams
        .iter()
        .map(|stream| Stream {
            kind: text(&stream["codec_type"]),
            codec: text(&stream["codec_name"]),
            width: stream["width"].as_u64().unwrap_or(0) as usize,
            height: stream["height"].as_u64().unwrap_or(0) as usize,
            duration: duration(path, &stream["index"]),
        })
        .collect()
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Computed from the packets: not every muxer stores the duration of each stream.
fn duration(path: &Path, stream: &serde_json::Value) -> f64 {
    let packets = packets(path, &stream.to_string());
    let begin = packets.iter().map(|packet| packet.begin);
    let end = packets.iter().map(|packet| packet.begin + packet.duration);
    end.fold(f64::MIN, f64::max) - begin.fold(f64::MAX, f64::min)
}

/// One packet of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    /// Presentation time, and duration if it is known, in seconds.
    pub begin: f64,
    pub duration: f64,
    pub is_key: bool,
}

/// The packets of a stream, which is named as in ffprobe: an index, `v` or `a`.
pub fn packets(path: &Path, stream: &str) -> Vec<Packet> {
    let shown = run(Command::new("ffprobe")
        .args(["-v", "error", "-print_format", "json", "-show_packets"])
        .args(["-select_streams", stream])
        .args(["-show_entries", "packet=pts_time,duration_time,flags"])
        .arg(path));
    let json: serde_json::Value = serde_json::from_slice(&shown).expect("JSON");
    let time = |packet: &serde_json::Value, name: &str| {
        let text = packet[name].as_str();
        text.and_then(|text| text.parse::<f64>().ok())
    };
    let packets = json["packets"].as_array().expect("packets").iter();
    packets
        .map(|packet| Packet {
            begin: time(packet, "pts_time").expect("a time"),
            duration: time(packet, "duration_time").unwrap_or(0.0),
            is_key: text(&packet["flags"]).starts_with('K'),
        })
        .collect()
}

/// How far the playground's audio is behind its video, in seconds: the median over all marks.
/// `counters` are those of the pictures. Panics if there is no mark.
pub fn lag(path: &Path, counters: &[u32]) -> f64 {
    let begin = packets(path, "a")[0].begin;
    // Missing audio is filled with silence: each sample is in its place.
    let samples = decode_sound(path, &["-af", "aresample=async=1000"]);
    let chunk = AudioChunk {
        pts: gst::ClockTime::from_nseconds((begin * 1e9) as u64),
        seen: 0,
        samples,
    };
    let pictures = packets(path, "v");
    assert_eq!(pictures.len(), counters.len(), "pictures are not shown");
    let mut lags: Vec<f64> = audio::marks(&[chunk])
        .iter()
        .filter_map(|mark| {
            let mark = mark.pts.nseconds() as f64 / 1e9;
            // A picture that is repeated counts once.
            let pairs = counters.chunk_by(|a, b| a == b);
            let starts = pairs.scan(0, |index, held| {
                let start = (*index, held[0]);
                *index += held.len();
                Some(start)
            });
            let marked = starts.filter(|(_, counter)| counter % FPS == 0);
            let lags = marked.map(|(index, _)| mark - pictures[index].begin);
            lags.min_by(|a, b| a.abs().total_cmp(&b.abs()))
        })
        .collect();
    median(&mut lags).expect("no mark is heard")
}

/// Start time and duration of a file as players see them, in seconds.
pub fn span(path: &Path) -> (f64, f64) {
    let shown = run(Command::new("ffprobe")
        .args(["-v", "error", "-print_format", "json"])
        .args(["-show_entries", "format=start_time,duration"])
        .arg(path));
    let json: serde_json::Value = serde_json::from_slice(&shown).expect("JSON");
    let time = |name: &str| {
        let text = json["format"][name].as_str();
        text.and_then(|text| text.parse().ok()).expect("a time")
    };
    (time("start_time"), time("duration"))
}

/// The stream of this kind; panics if there is none.
pub fn stream(streams: &[Stream], kind: &str) -> Stream {
    let found = streams.iter().find(|stream| stream.kind == kind);
    found
        .unwrap_or_else(|| panic!("no {kind} in {streams:?}"))
        .clone()
}

/// Live pictures do not come at even intervals, and two may fall into one of FFmpeg's 1/30 s. The
/// clock of RTP tells them apart; FFmpeg's word for the file's own one changed after 5.1.
const LIVE_TIME_BASE: [&str; 2] = ["-enc_time_base:v", "1:90000"];

/// Panics if a demuxer or decoder reports anything.
pub fn assert_decodes(path: &Path) {
    run(Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(path)
        .args(LIVE_TIME_BASE)
        .args(["-f", "null", "-"]));
}

/// Width, height and all pictures of a file, one luma byte per pixel: as they are stored, without
/// repeating or dropping any to fit a frame rate.
pub fn pictures(path: &Path) -> (usize, usize, Vec<u8>) {
    let video = stream(&probe(path), "video");
    let pictures = decode_pictures(path, "null", "gray");
    (video.width, video.height, pictures)
}

/// The mean colour (red, green, blue) of an area in each picture of a file.
pub fn colours(path: &Path, [x, y, width, height]: [u32; 4]) -> Vec<[u8; 3]> {
    let filter = format!("crop={width}:{height}:{x}:{y},scale=1:1:flags=area");
    let colours = decode_pictures(path, &filter, "rgb24");
    let colours = colours.chunks_exact(3);
    colours.map(|colour| colour.try_into().unwrap()).collect()
}

fn decode_pictures(path: &Path, filter: &str, format: &str) -> Vec<u8> {
    run(Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(path)
        .args(["-map", "0:v:0", "-vf", filter, "-fps_mode", "passthrough"])
        .args(LIVE_TIME_BASE)
        .args(["-f", "rawvideo", "-pix_fmt", format, "-"]))
}

/// The pictures that a file which is still written holds.
pub fn pictures_so_far(path: &Path) -> usize {
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "quiet", "-print_format", "csv=print_section=0"]);
    ffprobe.args(["-select_streams", "v", "-count_packets"]);
    ffprobe.args(["-show_entries", "stream=nb_read_packets"]);
    let shown = ffprobe.arg(path).output().unwrap().stdout;
    // Nothing is shown before the file has a header.
    let shown = String::from_utf8(shown).unwrap();
    shown.trim().parse().unwrap_or(0)
}

/// The counter in each picture of a file. Panics if one cannot be decoded.
pub fn counters(path: &Path) -> Vec<u32> {
    let (width, height, pictures) = pictures(path);
    pictures
        .chunks_exact(width * height)
        .enumerate()
        .map(|(index, picture)| {
            let code = frames::decode_frame_code(picture, width, width, height);
            code.unwrap_or_else(|| panic!("picture {index} is unreadable"))
                .0
        })
        .collect()
}

/// The codes, counter and time of emission, in an area of each picture of a file, where there is one.
pub fn codes(path: &Path, [x, y, width, height]: [usize; 4]) -> Vec<Option<(u32, u32)>> {
    let filter = format!("crop={width}:{height}:{x}:{y}");
    let pictures = decode_pictures(path, &filter, "gray");
    let pictures = pictures.chunks_exact(width * height);
    pictures
        .map(|picture| frames::decode_frame_code(picture, width, width, height))
        .collect()
}

/// The counter in each picture of a file that the platform recorded: at a fixed rate, so that some
/// are repeated; the first may be black.
pub fn recorded_counters(path: &Path) -> Vec<u32> {
    let (width, height, pictures) = pictures(path);
    pictures
        .chunks_exact(width * height)
        .enumerate()
        .filter_map(|(index, picture)| {
            let black = picture.iter().all(|luma| *luma < 24);
            let code = frames::decode_frame_code(picture, width, width, height);
            match code {
                None if black => None,
                None => panic!("picture {index} is unreadable"),
                Some((counter, _)) => Some(counter),
            }
        })
        .collect()
}

/// Panics unless the recording is complete: the recorder repeats and drops a picture where the
/// model is late or early.
pub fn assert_recorded(counters: &[u32]) {
    assert!(counters.len() > 20, "{} pictures", counters.len());
    let steps = counters.windows(2).map(|pair| pair[1].checked_sub(pair[0]));
    let odd: Vec<_> = steps.filter(|step| !matches!(step, Some(0..=3))).collect();
    let allowed = frames::dropped_by_busy_server(counters.len()) / 2;
    assert!(odd.len() as u32 <= allowed, "{odd:?} in {counters:?}");
}

/// The audio of a file as [`audio::CAPS`].
pub fn samples(path: &Path) -> Vec<i16> {
    decode_sound(path, &[])
}

fn decode_sound(path: &Path, options: &[&str]) -> Vec<i16> {
    let rate = audio::RATE.to_string();
    let bytes = run(Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(path)
        .args(["-map", "0:a:0"])
        .args(options)
        .args(["-ac", "1", "-ar", &rate, "-f", "s16le", "-"]));
    bytes
        .chunks_exact(2)
        .map(|b| i16::from_le_bytes([b[0], b[1]]))
        .collect()
}

/// The pairs of counters that do not increase by exactly one.
pub fn gaps(counters: &[u32]) -> Vec<(u32, u32)> {
    let pairs = counters.windows(2).map(|pair| (pair[0], pair[1]));
    pairs.filter(|(before, now)| *now != before + 1).collect()
}

/// Panics if a picture is repeated or out of order, or if more are missing than a busy server
/// drops.
pub fn assert_nearly_contiguous(counters: &[u32]) {
    let gaps = gaps(counters);
    assert!(gaps.iter().all(|(before, now)| now > before), "{gaps:?}");
    let missing: u32 = gaps.iter().map(|(before, now)| now - before - 1).sum();
    assert!(
        missing <= frames::dropped_by_busy_server(counters.len()),
        "of {} pictures, {gaps:?}",
        counters.len()
    );
}

/// As [`assert_nearly_contiguous`], for a recording that holds the last picture in gaps
/// (`on-gap=hold-last-frame`): a busy server may cause some.
pub fn assert_nearly_contiguous_or_held(counters: &[u32]) {
    let pictures = counters.chunk_by(|a, b| a == b);
    let held = pictures.clone().filter(|picture| picture.len() > 1).count();
    let allowed = 2 + counters.len() / 60;
    assert!(held <= allowed, "{held} are held: {counters:?}");
    let different: Vec<_> = pictures.map(|picture| picture[0]).collect();
    assert_nearly_contiguous(&different);
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaint.is_empty(),
        "{command:?}: {}: {complaint}",
        output.status
    );
    output.stdout
}
