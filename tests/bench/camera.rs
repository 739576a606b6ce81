// SPDX-License-Identifier: MIT

//! A camera whose pictures carry a number, which is read back from the playground's pictures. The
//! pictures are made by `pictures.py`, so that both clients send equal ones.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gst_video::prelude::*;
use reactor_tests::frames::{self, monotonic_us};

/// BGRA, the one format that the official client accepts.
const PIXEL: usize = 4;
/// The motion of the scene in pixels per picture.
const DRIFT: usize = 2;

/// Pictures of a scene that drifts, each with its number on top.
pub struct Scene {
    pub width: usize,
    pub height: usize,
    /// Two widths wide and periodic in one: a scene that drifts is a slice of it.
    scene: Vec<u8>,
    /// The line of pixels for number 1, then the one for 2, and so on.
    codes: Vec<u8>,
}

impl Scene {
    pub fn load(directory: &Path, width: usize, height: usize) -> Self {
        let read = |name| std::fs::read(directory.join(name)).expect("what pictures.py wrote");
        let (scene, codes) = (read("scene.bgra"), read("codes.bgra"));
        assert_eq!(scene.len(), 2 * width * height * PIXEL, "of another size");
        Self {
            width,
            height,
            scene,
            codes,
        }
    }

    pub fn caps(&self, rate: gst::Fraction) -> gst::Caps {
        let (width, height) = (self.width as u32, self.height as u32);
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Bgra, width, height);
        info.fps(rate).build().unwrap().to_caps().unwrap()
    }

    pub fn size(&self) -> usize {
        self.width * self.height * PIXEL
    }

    /// The count of numbers before they start again from 1.
    pub fn numbers(&self) -> usize {
        self.codes.len() / (self.width * PIXEL)
    }

    pub fn draw(&self, number: usize, picture: &mut [u8]) {
        let line = self.width * PIXEL;
        let code = &self.codes[(number - 1) * line..][..line];
        let shift = number * DRIFT % self.width * PIXEL;
        for (y, row) in picture.chunks_exact_mut(line).enumerate() {
            row.copy_from_slice(if y < code_height(self.height) {
                code
            } else {
                &self.scene[2 * y * line + shift..][..line]
            });
        }
    }
}

/// When each number was handed in, by [`monotonic_us`].
pub type Handed = Arc<Mutex<Vec<Option<u32>>>>;

/// Feeds an appsrc at a steady rate until it is dropped.
pub struct Feed {
    pub handed: Handed,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Feed {
    pub fn start(appsrc: gst_app::AppSrc, scene: Scene, period: Duration) -> Self {
        let handed: Handed = Arc::new(Mutex::new(vec![None; scene.numbers() + 1]));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, end) = (handed.clone(), stop.clone());
        let pool = pool(&scene);
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            pace(period, &end, || {
                number = number % scene.numbers() + 1;
                let mut buffer = pool.acquire_buffer(None).expect("a buffer");
                let writable = buffer.get_mut().expect("ours alone");
                let mut map = writable.map_writable().expect("writable");
                scene.draw(number, &mut map);
                drop(map);
                log.lock().unwrap()[number] = Some(monotonic_us());
                appsrc.push_buffer(buffer).is_ok()
            });
        });
        Self {
            handed,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Calls a function once per period, until told to stop or the function returns false.
pub fn pace(period: Duration, stop: &AtomicBool, mut act: impl FnMut() -> bool) {
    let begin = Instant::now();
    for count in 0u32.. {
        std::thread::sleep((begin + period * count).saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) || !act() {
            return;
        }
    }
}

fn pool(scene: &Scene) -> gst::BufferPool {
    let pool = gst::BufferPool::new();
    let mut config = pool.config();
    let caps = scene.caps(gst::Fraction::new(30, 1));
    config.set_params(Some(&caps), scene.size() as u32, 4, 0);
    pool.set_config(config).expect("a configuration");
    pool.set_active(true).expect("a pool");
    pool
}

/// What was decoded from one picture of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// The number of the camera's picture in it.
    pub number: usize,
    /// When the model emitted it, and when it passed the pad, by [`monotonic_us`].
    pub emitted: u32,
    pub seen: u32,
}

/// Decodes all pictures that pass a pad: the model's code and, in the lower left, the camera's
/// number.
#[derive(Debug, Clone, Default)]
pub struct Sights(Arc<Mutex<Vec<Option<Sight>>>>);

impl Sights {
    pub fn watch(pad: &gst::Pad) -> Self {
        let sights = Self::default();
        let list = sights.0.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let seen = monotonic_us();
            if let (Some(buffer), Some(caps)) = (info.buffer(), pad.current_caps()) {
                let info = gst_video::VideoInfo::from_caps(&caps).expect("video caps");
                let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info);
                let sight = look(&frame.expect("a picture"), seen);
                list.lock().unwrap().push(sight);
            }
            gst::PadProbeReturn::Ok
        });
        sights
    }

    /// `None` for each picture that could not be decoded.
    pub fn take(&self) -> Vec<Option<Sight>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub fn any(&self) -> bool {
        self.0.lock().unwrap().iter().any(Option::is_some)
    }
}

fn look(frame: &gst_video::VideoFrameRef<&gst::BufferRef>, seen: u32) -> Option<Sight> {
    let luma = frame.plane_data(0).expect("a plane");
    let stride = frame.plane_stride()[0] as usize;
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let (_, emitted) = frames::decode_frame_code(luma, stride, width, height)?;
    let number = camera_number(luma, stride, width, height)?;
    Some(Sight {
        number,
        emitted,
        seen,
    })
}

/// The size of the code's cells as [`frames::decode_frame_code`] accepts it: one pixel wide and as
/// low as possible.
const CELLS: usize = 40;
const CELL_HEIGHT: usize = 8;

/// The camera's number. Its picture is as large as the model's, and is shown
/// inverted in a third of the width, above the prompt, see `picture.py`.
fn camera_number(luma: &[u8], stride: usize, width: usize, height: usize) -> Option<usize> {
    let shown = (width.div_ceil(3), width.div_ceil(3) * height / width);
    let top = height - (height / 8).max(14) - shown.1;
    let cell = (width / CELLS, code_height(height) / 2);
    let mut upright = [0; CELLS * CELL_HEIGHT * 2];
    for (at, pixel) in upright.iter_mut().enumerate() {
        let (column, row) = (at % CELLS, at / CELLS / CELL_HEIGHT);
        let x = (column * cell.0 + cell.0 / 2) * shown.0 / width;
        let y = (row * cell.1 + cell.1 / 2) * shown.1 / height;
        *pixel = 255 - luma.get((top + y) * stride + x)?;
    }
    let (first, second) = frames::decode_frame_code(&upright, CELLS, CELLS, CELL_HEIGHT * 2)?;
    // Both rows carry one number.
    (first == second).then_some(first as usize)
}

/// The height of both rows, as in `framecode.py`.
fn code_height(height: usize) -> usize {
    2 * (height / 24).max(8)
}
