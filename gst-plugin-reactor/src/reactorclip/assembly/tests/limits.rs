// SPDX-License-Identifier: MIT

//! Limits of disk, memory and media; cancelling and cleaning up.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use mp4_atom::Tfdt;

use super::{
    super::{
        Assembly, Window,
        edit_list::{MuxedTrack, Presentation},
        movie_writer::{MovieWriter, WriteError},
    },
    media::*,
};
use crate::platform::{Code, Error, mp4_boxes::all_boxes};

/// Set in the environment of a test that has a process of its own.
const ALONE: &str = "REACTOR_ASSEMBLY_TEST";

/// Runs a test of this module in another process, started by the command
/// `with`.
fn run_in_process(with: &[&str], test: &str, value: &str) {
    let test = format!("reactorclip::assembly::tests::limits::{test}");
    let mut words = with
        .iter()
        .map(|word| (*word).to_owned())
        .collect::<Vec<_>>();
    words.push(std::env::current_exe().unwrap().display().to_string());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(ALONE, value);
    let output = command
        .args(["--exact", &test, "--nocapture"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{errors}");
    assert!(told.contains("1 passed"), "{told}");
    println!("{told}");
}

/// The segment with its times moved by `later` seconds.
fn later(segment: &Bytes, header: &Bytes, later: u64) -> Bytes {
    let header = super::super::init_section::InitSection::parse(header).unwrap();
    let mut bytes = segment.to_vec();
    for moof in all_boxes(segment).unwrap() {
        let inside = moof.children().unwrap_or_default();
        for (traf, track) in inside.iter().filter(|b| b.is(b"traf")).zip(&header.tracks) {
            let tfdt = traf.descendant(&[b"tfdt"]).unwrap();
            let begins = tfdt.decode::<Tfdt>().unwrap().base_media_decode_time;
            let begins = begins + later * u64::from(track.timescale);
            // Version 0 has 32 bits, version 1 has 64.
            let at = tfdt.body.start + 4;
            match segment[tfdt.body.start] {
                0 => bytes[at..at + 4].copy_from_slice(&(begins as u32).to_be_bytes()),
                _ => bytes[at..at + 8].copy_from_slice(&begins.to_be_bytes()),
            }
        }
    }
    bytes.into()
}

/// 1.5 MB a segment.
fn large() -> Arc<Recording> {
    let codecs = "-c:v libx264 -preset ultrafast -bf 2 -b:v 6M -minrate 6M -maxrate 6M \
                  -bufsize 1M -x264-params nal-hrd=cbr -c:a aac";
    made(codecs, "320x180", 6)
}

/// Pushes one large segment `count` times, changed by `change`.
fn pushed(
    window: Option<Window>,
    count: u64,
    change: impl Fn(&mut [u8]),
) -> Result<Assembly, Error> {
    let recording = large();
    let mut assembly = Assembly::begin(&std::env::temp_dir(), window)?;
    assembly.push(init_section(&recording.init_section))?;
    for n in 0..count {
        let bytes = later(&recording.segments[1], &recording.init_section, 2 * n);
        let mut bytes = bytes.to_vec();
        change(&mut bytes);
        assembly.push(segment(&bytes.into()))?;
    }
    Ok(assembly)
}

/// Removes the fragments of the second track, the audio, from a segment.
fn mute(bytes: &mut [u8]) {
    let unchanged = bytes.to_vec();
    for moof in all_boxes(&unchanged).unwrap() {
        let inside = moof.children().unwrap_or_default();
        if let Some(traf) = inside.iter().filter(|b| b.is(b"traf")).nth(1) {
            let kind = traf.range.start + 4;
            bytes[kind..kind + 4].copy_from_slice(b"free");
        }
    }
}

/// Marks a segment's first frame as not a sync sample.
fn no_keyframe(bytes: &mut [u8]) {
    let at = bytes.windows(4).position(|kind| kind == b"trun").unwrap();
    // Version, flags (with 4: the first sample's), count, offset, and those flags.
    assert_eq!(bytes[at + 7] & 5, 5);
    bytes[at + 16..at + 20].copy_from_slice(&0x0101_0000u32.to_be_bytes());
}

/// Memory of this process in KiB, by a line of its status.
fn memory(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(line)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn recording_long_takes_no_more_memory() {
    let Ok(count) = std::env::var(ALONE) else {
        return run_in_process(&[], "recording_long_takes_no_more_memory", "100");
    };
    let count: u64 = count.parse().unwrap();
    let recording = large();
    let segment_1 = &recording.segments[1];
    let directory = tempfile::tempdir().unwrap();
    let mut assembly = Assembly::begin(directory.path(), None).unwrap();
    assembly
        .push(init_section(&recording.init_section))
        .unwrap();
    let (idle, begun) = (memory("VmRSS"), Instant::now());
    for n in 0..count {
        let bytes = later(segment_1, &recording.init_section, 2 * n);
        assembly.push(segment(&bytes)).unwrap();
    }
    let pushed = memory("VmHWM").saturating_sub(idle);
    let assembled = assembly.finish().unwrap();
    let took = begun.elapsed().as_secs_f64();
    let used = memory("VmHWM").saturating_sub(idle);
    let size = assembled.size >> 20;
    println!(
        "{count} segments, {size} MiB in {took:.1} s, {pushed} KiB, then {used} KiB more than {idle}"
    );
    assert!(size > 64.max(count), "{size} MiB");
    assert!(used < 64 << 10, "{used} KiB");
    assert_eq!(assembled.duration.seconds(), 2 * count);
    // From its end, which needs the index.
    let fd = std::os::fd::AsRawFd::as_raw_fd(&assembled.file);
    let path = format!("/proc/{}/fd/{fd}", std::process::id());
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-sseof", "-2", "-i", &path]);
    let told = run(ffmpeg.args(["-map", "0:v", "-f", "framemd5", "-"]));
    let frames = told.lines().filter(|line| !line.starts_with('#')).count();
    assert!((58..=61).contains(&frames), "{frames}");
}

#[test]
fn disk_full_reports_directory() {
    const DIRECTORY: &str = "/mnt";
    const PAGE: usize = 4096;
    if std::env::var(ALONE).is_err() {
        let sh = "mount -t tmpfs -o size=512k none /mnt && exec \"$0\" \"$@\"";
        let ways: [&[&str]; 2] = [
            &["unshare", "--mount"],
            &["unshare", "--user", "--map-root-user", "--mount"],
        ];
        let may = |way: &&&[&str]| {
            let mut command = Command::new(way[0]);
            command.args(&way[1..]).args(["sh", "-c", sh, "true"]);
            command.output().is_ok_and(|output| output.status.success())
        };
        // A container may forbid both.
        if let Some(way) = ways.iter().find(may) {
            let with = [way, &["sh", "-c", sh][..]].concat();
            run_in_process(&with, "disk_full_reports_directory", "1");
        } else {
            println!("no disk can be made to be full here");
        }
        return;
    }
    let recording = recording(H264);
    let reference = save(assemble(recording.clip(0..2), None).unwrap());
    let size = reference.bytes.len();
    // From too little to enough, page by page, so that either of the two files
    // meets the limit.
    let (mut refused, mut whole) = (0, 0);
    for pages in (0..=2 * size / PAGE + 2).rev() {
        fs::write("/mnt/ballast", vec![1; 512 * 1024 - pages * PAGE]).unwrap();
        let mut assembly = Assembly::begin(Path::new(DIRECTORY), None).unwrap();
        let pushed = recording
            .clip(0..2)
            .into_iter()
            .try_for_each(|p| assembly.push(p));
        match pushed.and_then(|()| assembly.finish()) {
            Ok(assembled) => {
                whole += 1;
                assert_eq!(save(assembled).bytes.len(), size);
            }
            Err(error) => {
                refused += 1;
                assert_eq!(error.code, Code::NoSpace, "{pages} pages: {error}");
                for word in [DIRECTORY, "TMPDIR", "temp-directory"] {
                    assert!(error.message.contains(word), "{error}");
                }
            }
        }
        // No file is left, with a name or without.
        assert_eq!(fs::read_dir(DIRECTORY).unwrap().count(), 1);
        assert_eq!(open_in(Path::new(DIRECTORY)), 0);
    }
    assert!(refused > size / PAGE / 2 && whole > 0, "{refused} {whole}");
    println!("{refused} refused, {whole} whole");
}

#[test]
fn directory_missing_reports_setting() {
    gst::init().unwrap();
    let error = Assembly::begin(Path::new("/nowhere"), None).unwrap_err();
    assert_eq!(error.code, Code::InvalidSettings);
    assert!(error.message.contains("/nowhere"), "{error}");
}

#[test]
fn tracks_too_far_apart_are_refused() {
    let error = pushed(None, 30, mute).unwrap_err();
    assert_eq!(error.code, Code::UnsupportedMedia);
    assert!(error.message.contains("too far apart"), "{error}");
}

/// Each takes more memory than its byte.
#[test]
fn tiny_samples_that_take_too_much_memory_are_refused() {
    let recording = recording(H264);
    let pushed = |segments: u32, samples: u32| -> Result<(), Error> {
        let mut assembly = Assembly::begin(&std::env::temp_dir(), None)?;
        assembly.push(init_section(&recording.init_section))?;
        for n in 0..segments {
            assembly.push(segment(&tiny_samples(samples, n * samples)))?;
        }
        Ok(())
    };
    let error = pushed(1, 1 << 17).unwrap_err();
    assert_eq!(error.code, Code::UnsupportedMedia);
    assert!(error.message.contains("has 131072 samples"), "{error}");
    // The pictures are not there, so that the sound waits.
    pushed(1, 30_000).unwrap();
    let error = pushed(10, 30_000).unwrap_err();
    assert_eq!(error.code, Code::UnsupportedMedia);
    assert!(error.message.contains("too far apart"), "{error}");
}

#[test]
fn track_without_samples_is_left_out() {
    let assembled = pushed(None, 2, mute).unwrap().finish().unwrap();
    let file = save(assembled);
    file.plays();
    assert_eq!(file.frames().len(), 120);
    assert_eq!(file.packets("a").len(), 0);
    let kinds = probe(file.path(), &["-show_entries", "stream=codec_type"]);
    assert_eq!(kinds.trim(), "video");
}

#[test]
fn window_far_from_keyframe_is_refused() {
    let window = |start: f64| {
        let end = start + 1.0;
        Some(Window { start, end })
    };
    // Media before the window are dropped as long as there are keyframes.
    let file = pushed(window(58.5), 30, |_| ()).unwrap().finish().unwrap();
    assert!(file.size < 4 << 20, "{}", file.size);
    let error = pushed(window(58.5), 30, no_keyframe).unwrap_err();
    assert_eq!(error.code, Code::UnsupportedMedia);
    assert!(error.message.contains("no keyframe"), "{error}");
}

#[test]
fn media_lost_by_muxer_is_reported() {
    let recording = recording(LIVE);
    let mut whole = save(assemble(recording.clip(0..1), None).unwrap()).bytes;
    let fed = |(timescale, samples): (u32, u64)| MuxedTrack {
        timescale,
        samples,
        end: i64::from(timescale) * 2,
        // The number of samples is not checked here.
        parsed: true,
        ..MuxedTrack::default()
    };
    let plan = Presentation {
        begin: 0,
        end: 2_000_000_000,
        tracks: [(15_360, 60), (48_000, 94)].map(fed).to_vec(),
    };
    let put = |bytes: &[u8]| {
        let mut output = MovieWriter::new(tempfile::tempfile().unwrap());
        output.set_presentation(plan.clone());
        for part in bytes.chunks(100) {
            output.write(part).unwrap();
        }
        output.into_file()
    };
    assert!(put(&whole).is_ok());
    whole.truncate(whole.len() - 4096);
    assert!(matches!(put(&whole), Err(WriteError::Truncated(4096))));
}

/// The number of files that this process has open in a directory.
fn open_in(directory: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let paths = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    paths.filter(|path| path.starts_with(directory)).count()
}

#[test]
fn assembly_dropped_leaves_no_file() {
    let recording = recording(H264);
    let directory = tempfile::tempdir().unwrap();
    let mut clip = recording.clip(0..3);
    clip[3].bytes = clip[3].bytes.slice(..1000);
    for count in 0..=clip.len() {
        let mut assembly = Assembly::begin(directory.path(), None).unwrap();
        for segment in &clip[..count] {
            // The last one fails.
            let _ = assembly.push(segment.clone());
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(count == 0 || open_in(directory.path()) > 0);
        drop(assembly);
        // The muxer has closed its file as well, so its thread has ended.
        assert_eq!(open_in(directory.path()), 0);
    }
    let assembly = Assembly::begin(directory.path(), None).unwrap();
    drop(assembly.finish().unwrap_err());
    assert_eq!(open_in(directory.path()), 0);
}

#[test]
fn assembly_cancelled_fails_from_any_thread() {
    let recording = recording(H264);
    let mut assembly = Assembly::begin(&std::env::temp_dir(), None).unwrap();
    let canceller = assembly.canceller();
    assembly
        .push(init_section(&recording.init_section))
        .unwrap();
    let cancelling = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        canceller.cancel();
        Instant::now()
    });
    let mut n = 0;
    let error = loop {
        let bytes = later(&recording.segments[1], &recording.init_section, 2 * n);
        n += 1;
        if let Err(error) = assembly.push(segment(&bytes)) {
            break error;
        }
    };
    let cancelled = cancelling.join().unwrap();
    assert!(cancelled.elapsed() < Duration::from_secs(5));
    assert_eq!(error.code, Code::Aborted);
    assert_eq!(assembly.finish().unwrap_err().code, Code::Aborted);

    let mut assembly = Assembly::begin(&std::env::temp_dir(), None).unwrap();
    for segment in recording.clip(0..4) {
        assembly.push(segment).unwrap();
    }
    assembly.canceller().cancel();
    assert_eq!(assembly.finish().unwrap_err().code, Code::Aborted);
}

#[test]
fn element_missing_reports_package() {
    if std::env::var(ALONE).is_err() {
        return run_in_process(&[], "element_missing_reports_package", "1");
    }
    gst::init().unwrap();
    let registry = gst::Registry::get();
    let factory = gst::ElementFactory::find("mp4mux").unwrap();
    registry.remove_feature(&factory);
    let error = Assembly::begin(&std::env::temp_dir(), None).unwrap_err();
    assert_eq!(error.code, Code::MissingPlugin);
    for word in ["mp4mux", "gst-plugins-good"] {
        assert!(error.message.contains(word), "{error}");
    }
}
