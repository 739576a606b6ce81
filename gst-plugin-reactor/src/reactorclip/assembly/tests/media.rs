// SPDX-License-Identifier: MIT

//! Recordings made by ffmpeg, and functions that examine the result.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    path::Path,
    process::Command,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use bytes::Bytes;

use super::super::{AssembledMovie, Assembly, Window};
use crate::platform::{
    Error,
    recording::{ClipSegment, SegmentKind},
};

/// H.264 with B-frames, and AAC.
pub const H264: &str = "-c:v libx264 -preset veryfast -bf 2 -c:a aac -b:a 96k";
/// As the runtime's recorder encodes.
pub const LIVE: &str = "-c:v libx264 -preset veryfast -tune zerolatency -c:a aac";

/// A recording: one initialization section, and segments of 2 s.
pub struct Recording {
    pub init_section: Bytes,
    pub segments: Vec<Bytes>,
    frames: OnceLock<Vec<String>>,
}

/// 8 s at 30 frames per second, no two of them equal.
pub fn recording(codecs: &str) -> Arc<Recording> {
    made(codecs, "320x180", 8)
}

pub fn made(codecs: &str, size: &str, seconds: u32) -> Arc<Recording> {
    static MADE: OnceLock<Mutex<HashMap<String, Arc<Recording>>>> = OnceLock::new();
    gst::init().unwrap();
    let mut made = MADE.get_or_init(Mutex::default).lock().unwrap();
    let made = made.entry(format!("{codecs} {size} {seconds}"));
    made.or_insert_with(|| Arc::new(make(codecs, size, seconds)))
        .clone()
}

fn make(codecs: &str, size: &str, seconds: u32) -> Recording {
    let directory = tempfile::tempdir().unwrap();
    let mut inputs = Vec::new();
    if !codecs.contains("-vn") {
        inputs.push(format!("testsrc2=size={size}:rate=30"));
    }
    if !codecs.contains("-an") {
        inputs.push("sine=frequency=440:sample_rate=48000".into());
    }
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-y"]).current_dir(&directory);
    for input in &inputs {
        ffmpeg.args(["-f", "lavfi", "-i", input]);
    }
    ffmpeg.args(["-t", &seconds.to_string(), "-pix_fmt", "yuv420p"]);
    ffmpeg.args(codecs.split_whitespace());
    ffmpeg.args(["-g", "60", "-keyint_min", "60", "-sc_threshold", "0"]);
    ffmpeg.args(["-f", "hls", "-hls_time", "2", "-hls_list_size", "0"]);
    ffmpeg.args([
        "-hls_segment_type",
        "fmp4",
        "-hls_flags",
        "independent_segments",
    ]);
    ffmpeg.args(["-hls_fmp4_init_filename", "init.mp4"]);
    ffmpeg.args(["-hls_segment_filename", "chunk_%05d.m4s", "list.m3u8"]);
    run(&mut ffmpeg);
    let segments = (0..).map(|n| directory.path().join(format!("chunk_{n:05}.m4s")));
    let segments = segments.take_while(|path| path.exists());
    Recording {
        init_section: fs::read(directory.path().join("init.mp4")).unwrap().into(),
        segments: segments
            .map(|path| fs::read(path).unwrap().into())
            .collect(),
        frames: OnceLock::new(),
    }
}

pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {errors}");
    // x265 and others print a banner, ffmpeg with -v error prints errors only.
    String::from_utf8(output.stdout).unwrap()
}

pub fn init_section(bytes: &Bytes) -> ClipSegment {
    ClipSegment {
        kind: SegmentKind::InitSection,
        bytes: bytes.clone(),
        duration: Duration::ZERO,
        discontinuity: false,
    }
}

pub fn segment(bytes: &Bytes) -> ClipSegment {
    ClipSegment {
        kind: SegmentKind::Media,
        duration: Duration::from_secs(2),
        ..init_section(bytes)
    }
}

/// A box of these bytes.
pub fn atom(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(8 + body.len()).unwrap();
    [&size.to_be_bytes(), kind.as_slice(), body].concat()
}

/// Numbers of 32 bits, one after the other.
pub fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
}

/// A segment of the second track, the audio, with `count` samples. Each sample has 1 byte and lasts
/// 1 tick; the first one begins at tick `begin`.
pub fn tiny_samples(count: u32, begin: u32) -> Bytes {
    let tfhd = atom(b"tfhd", &numbers(&[0x02_0018, 2, 1, 1]));
    let tfdt = atom(b"tfdt", &numbers(&[0, begin]));
    let fragment = |offset: u32| {
        let trun = atom(b"trun", &numbers(&[1, count, offset]));
        let traf = [tfhd.clone(), tfdt.clone(), trun].concat();
        atom(b"moof", &atom(b"traf", &traf))
    };
    let offset = u32::try_from(fragment(0).len()).unwrap() + 8;
    let media = atom(b"mdat", &vec![0; count as usize]);
    [fragment(offset), media].concat().into()
}

pub fn discontinuous(segment: ClipSegment) -> ClipSegment {
    ClipSegment {
        discontinuity: true,
        ..segment
    }
}

impl Recording {
    /// The clip that consists of these segments.
    pub fn clip(&self, segments: std::ops::Range<usize>) -> Vec<ClipSegment> {
        let mut clip = vec![init_section(&self.init_section)];
        clip.extend(self.segments[segments].iter().map(segment));
        clip
    }

    /// A hash of each frame, in presentation order.
    pub fn frames(&self) -> &[String] {
        let all = || frames(&self.fragmented(0..self.segments.len()));
        self.frames.get_or_init(all)
    }

    /// The segments as one fragmented file, for ffmpeg to compare with.
    pub fn fragmented(&self, segments: std::ops::Range<usize>) -> tempfile::TempPath {
        let mut file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
        file.write_all(&self.init_section).unwrap();
        for segment in &self.segments[segments] {
            file.write_all(segment).unwrap();
        }
        file.into_temp_path()
    }
}

pub fn assemble(
    clip: Vec<ClipSegment>,
    window: Option<(f64, f64)>,
) -> Result<AssembledMovie, Error> {
    gst::init().unwrap();
    let window = window.map(|(start, end)| Window { start, end });
    let mut assembly = Assembly::begin(&std::env::temp_dir(), window)?;
    for segment in clip {
        assembly.push(segment)?;
    }
    assembly.finish()
}

/// A finished file with a name.
pub struct Saved {
    pub bytes: Vec<u8>,
    file: tempfile::NamedTempFile,
}

pub fn save(mut assembled: AssembledMovie) -> Saved {
    let mut bytes = Vec::new();
    assembled.file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, assembled.size);
    let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
    fs::write(file.path(), &bytes).unwrap();
    Saved { bytes, file }
}

/// Assembles the clip, and has ffmpeg and GStreamer play the file.
pub fn saved(clip: Vec<ClipSegment>, window: Option<(f64, f64)>) -> Saved {
    let saved = save(assemble(clip, window).unwrap());
    saved.plays();
    saved
}

impl Saved {
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// ffmpeg decodes it without an error, from the first to the last byte.
    pub fn plays(&self) {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-i"]).arg(self.path());
        let output = ffmpeg.args(["-f", "null", "-"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }

    /// Start and end of what is presented, in seconds. Not the duration that ffprobe states: that of
    /// FFmpeg 7 counts an empty edit twice. Not of packets either: FFmpeg 9 leaves the duration of the
    /// last one whole where an edit ends within it, and cuts the frame.
    pub fn times(&self) -> (f64, f64) {
        let shown = probe(self.path(), &["-show_entries", "format=start_time"]);
        let start = shown.trim().parse().unwrap();
        // FFmpeg 5.1 has the second name, 6 both, and 7 the first.
        let entries = "frame=pts_time,duration_time,pkt_duration_time";
        let shown = probe(self.path(), &["-show_entries", entries]);
        let ends = shown.lines().filter_map(|line| {
            let mut fields = line.split(',').map(str::parse::<f64>);
            Some(fields.next()?.ok()? + fields.next()?.ok()?)
        });
        (start, ends.fold(f64::MIN, f64::max))
    }

    pub fn packets(&self, stream: &str) -> Vec<(f64, f64)> {
        packets(self.path(), stream)
    }

    pub fn frames(&self) -> Vec<String> {
        frames(self.path())
    }
}

pub fn probe(path: &Path, what: &[&str]) -> String {
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error", "-of", "csv=p=0"]);
    run(ffprobe.args(what).arg(path))
}

/// PTS and duration of each packet of a stream, in seconds.
pub fn packets(path: &Path, stream: &str) -> Vec<(f64, f64)> {
    let entries = "packet=pts_time,duration_time";
    let shown = probe(path, &["-select_streams", stream, "-show_entries", entries]);
    // Side data are on separate lines.
    let lines = shown.lines().filter(|line| !line.is_empty());
    let lines = lines.map(|line| {
        let mut numbers = line.split(',').map(|n| n.parse().unwrap_or(f64::NAN));
        (numbers.next().unwrap(), numbers.next().unwrap())
    });
    let mut packets: Vec<_> = lines.collect();
    packets.sort_by(|a, b| a.0.total_cmp(&b.0));
    packets
}

/// A hash of each frame that is presented.
pub fn frames(path: &Path) -> Vec<String> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-i"]).arg(path);
    ffmpeg.args([
        "-map",
        "0:v",
        "-fps_mode",
        "passthrough",
        "-f",
        "framemd5",
        "-",
    ]);
    let shown = run(&mut ffmpeg);
    let lines = shown.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit(',').next().unwrap().trim().to_owned())
        .collect()
}

/// The number of audio samples that are played.
pub fn heard(path: &Path) -> usize {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-i"]).arg(path);
    ffmpeg.args(["-map", "0:a", "-ac", "1", "-f", "s16le", "-"]);
    ffmpeg.output().unwrap().stdout.len() / 2
}

/// The types of the file's boxes, in order.
pub fn layout(bytes: &[u8]) -> Vec<String> {
    let boxes = crate::platform::mp4_boxes::all_boxes(bytes).unwrap();
    boxes.iter().map(|found| found.kind.to_string()).collect()
}

pub fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 0.000_1
}
