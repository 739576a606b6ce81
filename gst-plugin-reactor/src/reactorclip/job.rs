// SPDX-License-Identifier: MIT

//! Gets one clip, on a thread of its own: finds the session, requests the clip
//! in time, downloads it, and hands it over. The element's threads start and
//! cancel it; it never posts a message itself.

use std::{
    sync::{Arc, Mutex, mpsc as std_mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::mpsc;

use super::{
    assembly::{Assembly, Canceller, TrimResult, Window},
    handoff::{CompleteFile, Handoff},
    readiness,
    request_timing::{RequestTiming, TimingDecision, TimingInput},
    settings::{ClipFormat, ClipRequest, ClipSettings},
};
use crate::{
    element::{clip_structure::ClipServer, lock},
    platform::{
        Code, Error,
        http::HttpClient,
        recording::{ClipSegment, Download, DownloadEvent, PlaylistLocation},
        wire::{Clip, ServerMessage},
    },
    session::{
        self, MachineEvent, Participant, ParticipantRole, Reply, Session, SessionEvent, Status,
        recording_endpoints, settings::Settings as Access,
    },
};

/// How often a session is looked up that does not exist yet.
const FIND_INTERVAL: Duration = Duration::from_millis(50);

/// By how many seconds a clip may be shorter than requested, without a warning.
const DURATION_TOLERANCE: f64 = 0.1;

/// Where the clip is.
#[derive(Debug)]
pub enum ClipOrigin {
    /// The URL of a playlist.
    Playlist(String),
    /// The answer of a live element.
    Clip(Clip, ClipServer),
    /// The session with this key.
    Session { key: String, name: String },
}

#[derive(Debug)]
pub struct JobConfig {
    pub origin: ClipOrigin,
    pub settings: ClipSettings,
    /// Server and credentials.
    pub access: Access,
    /// The element's path, for the errors of others.
    pub element: String,
}

/// Progress of a job.
#[derive(Debug)]
pub enum JobUpdate {
    /// A session of this name is looked for.
    Searching(String),
    /// Recorded so far, in seconds.
    Recording(f64),
    /// The session has answered.
    Answered(Clip),
    /// The clip is shorter than requested, in seconds.
    Shorter {
        requested: f64,
        actual: f64,
    },
    /// The clip is not ready on the server.
    NotReady,
    /// Segments fetched, segments known, and the bytes fetched.
    Fetched {
        fetched: u64,
        total: u64,
        bytes: u64,
    },
    Saved(SavedClip),
    Failed(Error),
    Canceled,
}

#[derive(Debug, Default)]
pub struct SavedClip {
    pub segments: u64,
    /// The size of the file; without a file, of the segments.
    pub bytes: u64,
    pub duration: Option<gst::ClockTime>,
    pub trimmed: Option<TrimResult>,
}

/// Called on the job's thread.
pub type PublishUpdate = Box<dyn Fn(JobUpdate) + Send>;

enum JobEvent {
    Session(SessionEvent),
    Answer(Result<Clip, Error>),
    LiveEnded,
    Cancel,
}

/// A running job.
#[derive(Debug)]
pub struct Job {
    events: mpsc::UnboundedSender<JobEvent>,
    pub handoff: Arc<Handoff>,
    handles: Arc<JobHandles>,
    done: std_mpsc::Receiver<()>,
}

/// What [`Job::cancel`] ends.
#[derive(Debug, Default)]
struct JobHandles {
    canceller: Mutex<Option<Canceller>>,
    session: Mutex<Option<Arc<Session>>>,
}

impl Job {
    /// # Errors
    ///
    /// When the process has no threads left.
    pub fn start(config: JobConfig, publish: PublishUpdate) -> Result<Self, Error> {
        let (events, receiver) = mpsc::unbounded_channel();
        let (done, is_done) = std_mpsc::channel();
        let handoff = Arc::new(Handoff::default());
        let handles = Arc::new(JobHandles::default());
        let worker = ClipWorker {
            config,
            publish,
            events: receiver,
            sender: events.clone(),
            handoff: handoff.clone(),
            handles: handles.clone(),
            session_over: false,
        };
        thread::Builder::new()
            .name("reactorclip".into())
            .spawn(move || {
                worker.run();
                let _ = done.send(());
            })
            .map_err(|error| Error::api(Code::ResourceLimit, format!("no thread: {error}")))?;
        Ok(Self {
            events,
            handoff,
            handles,
            done: is_done,
        })
    }

    /// To be called when the live elements end: the clip is requested now.
    pub fn request_now(&self) {
        let _ = self.events.send(JobEvent::LiveEnded);
    }

    /// Cancels at once; returns the session that the job took part in. Blocks
    /// until its thread has ended, at most [`CANCEL_LIMIT`].
    pub fn cancel(self) -> Option<Arc<Session>> {
        let _ = self.events.send(JobEvent::Cancel);
        self.handoff.close();
        if let Some(canceller) = &*lock(&self.handles.canceller) {
            canceller.cancel();
        }
        let session = lock(&self.handles.session).take();
        if let Some(session) = &session {
            session.leave();
        }
        // It has nothing to wait for any more.
        let _ = self.done.recv_timeout(CANCEL_LIMIT);
        session
    }
}

/// How long a thread that was cancelled is waited for.
const CANCEL_LIMIT: Duration = Duration::from_millis(500);

struct ClipWorker {
    config: JobConfig,
    publish: PublishUpdate,
    events: mpsc::UnboundedReceiver<JobEvent>,
    sender: mpsc::UnboundedSender<JobEvent>,
    handoff: Arc<Handoff>,
    handles: Arc<JobHandles>,
    session_over: bool,
}

/// A clip that was found.
struct LocatedClip {
    playlist: PlaylistLocation,
    window: Option<Window>,
    predicted_ready_at_ms: i64,
}

impl ClipWorker {
    fn run(mut self) {
        let result = self.save_clip();
        // The session is kept until the clip is complete.
        let session = lock(&self.handles.session).take();
        if let Some(session) = session {
            session.leave();
        }
        match result {
            Ok(()) => {}
            Err(error) if error.code == Code::Aborted => (self.publish)(JobUpdate::Canceled),
            Err(error) => {
                (self.publish)(JobUpdate::Failed(error));
                self.handoff.fail();
            }
        }
    }

    fn save_clip(&mut self) -> Result<(), Error> {
        let runtime = session::runtime()?;
        let live = matches!(self.config.origin, ClipOrigin::Session { .. });
        let clip = runtime.block_on(self.locate())?;
        let settings = &self.config.settings;
        let (predicted, now) = (clip.predicted_ready_at_ms, SystemTime::now());
        let limits = readiness::download_limits(settings, live, predicted, now);
        let _entered = runtime.enter();
        let mut download = Download::start(clip.playlist, limits);
        if self.session_over {
            download.session_is_over();
        }
        match self.config.settings.format {
            ClipFormat::Fragmented => self.forward(&mut download),
            ClipFormat::Faststart => self.assemble(&mut download, clip.window),
        }
    }

    /// Finds the playlist, and the requested window.
    async fn locate(&mut self) -> Result<LocatedClip, Error> {
        let access = &self.config.access;
        let nowhere = ClipOrigin::Playlist(String::new());
        let origin = std::mem::replace(&mut self.config.origin, nowhere);
        let (clip, endpoint) = match origin {
            ClipOrigin::Playlist(url) => {
                let tokens = access.token_provider(Some(&url))?;
                let playlist = PlaylistLocation::from_url(HttpClient::shared()?, &url, tokens)?;
                let window = playlist.window().map(|(start, end)| Window { start, end });
                return Ok(LocatedClip {
                    playlist,
                    window,
                    predicted_ready_at_ms: 0,
                });
            }
            ClipOrigin::Clip(clip, server) => {
                let access = access.with_server(server.api_url, server.local);
                let known = recording_endpoints::find_endpoint(&clip.session_id);
                let endpoint = known.map_or_else(|| access.endpoint(), Ok)?;
                (clip, endpoint)
            }
            ClipOrigin::Session { key, name } => {
                let clip = self.request_clip(&key, &name).await?;
                let known = recording_endpoints::find_endpoint(&clip.session_id);
                let unknown = || Error::api(Code::Internal, "the recording's server is not known");
                let endpoint = known.ok_or_else(unknown)?;
                (clip, endpoint)
            }
        };
        let playlist = PlaylistLocation::of_clip(&endpoint, &clip.playlist_url)?;
        let located = LocatedClip {
            playlist,
            window: Some(Window {
                start: clip.start_marker,
                end: clip.end_marker,
            }),
            predicted_ready_at_ms: clip.predicted_ready_at_ms,
        };
        (self.publish)(JobUpdate::Answered(clip));
        Ok(located)
    }

    /// Waits for an event; None when the time is over.
    async fn next_event(&mut self, until: Option<Instant>) -> Result<Option<JobEvent>, Error> {
        let event = self.events.recv();
        let event = match until {
            None => Ok(event.await),
            Some(until) => tokio::time::timeout_at(until.into(), event).await,
        };
        match event {
            Err(_) => Ok(None),
            Ok(Some(JobEvent::Cancel) | None) => Err(aborted()),
            Ok(event) => Ok(event),
        }
    }

    /// Joins the session, as soon as it exists.
    async fn join_session(&mut self, key: &str, name: &str) -> Result<Arc<Session>, Error> {
        let start = Instant::now();
        (self.publish)(JobUpdate::Searching(name.to_owned()));
        loop {
            let sender = self.sender.clone();
            let events = Box::new(move |event| {
                // Nothing reads while downstream is not ready for data, and a model may
                // send messages all the time.
                if counts(&event) {
                    let _ = sender.send(JobEvent::Session(event));
                }
            });
            let participant = Participant {
                element: self.config.element.clone(),
                role: ParticipantRole::Clip,
                // It receives and sends no media that could be told of.
                report_stats: true,
            };
            if let Some(session) = Session::find(key, participant, events) {
                let session = Arc::new(session);
                *lock(&self.handles.session) = Some(session.clone());
                return Ok(session);
            }
            let limit = self.config.settings.ready_limit();
            if limit.is_some_and(|limit| start.elapsed() > limit) {
                let text = format!(
                    "there is no session {name}; start a reactorsrc or reactorsink with \
                     the same 'session', or set playlist-url"
                );
                return Err(Error::api(Code::NotFound, text));
            }
            // Without a session there is no recording to save at the end.
            let event = self.next_event(Some(Instant::now() + FIND_INTERVAL));
            if let Some(JobEvent::LiveEnded) = event.await? {
                let text = format!("there is no session {name}, so there is nothing to save");
                return Err(Error::api(Code::NotFound, text));
            }
        }
    }

    /// Requests the clip from the session when [`RequestTiming`] says so.
    async fn request_clip(&mut self, key: &str, name: &str) -> Result<Clip, Error> {
        let session = self.join_session(key, name).await?;
        let settings = &self.config.settings;
        let mut timing = RequestTiming::new(settings.request, settings.duration);
        let epoch = Instant::now();
        let mut decision = timing.handle(Duration::ZERO, TimingInput::Timeout);
        loop {
            let until = match decision {
                TimingDecision::Accept(clip) => {
                    self.check_duration(&clip);
                    return Ok(clip);
                }
                TimingDecision::Fail(error) => return Err(error.during("request_clip")),
                TimingDecision::Wait(until) => until.map(|at| epoch + at),
                TimingDecision::Request(message) => {
                    let sender = self.sender.clone();
                    let reply = move |result| {
                        let _ = sender.send(JobEvent::Answer(expect_clip(result)));
                    };
                    session.request_privately(message, Reply::new(reply));
                    None
                }
            };
            let input = match self.next_event(until).await? {
                None => Some(TimingInput::Timeout),
                Some(event) => self.timing_input(event),
            };
            decision = match input {
                Some(input) => timing.handle(epoch.elapsed(), input),
                None => TimingDecision::Wait(until.map(|at| at - epoch)),
            };
            (self.publish)(JobUpdate::Recording(timing.recorded()));
        }
    }

    /// Publishes that a clip is shorter than requested: no more was recorded, or
    /// the platform gives no more in one clip.
    fn check_duration(&self, clip: &Clip) {
        let actual = clip.end_marker - clip.start_marker;
        let requested = self.config.settings.duration;
        if self.config.settings.request != ClipRequest::Now
            && actual + DURATION_TOLERANCE < requested
        {
            (self.publish)(JobUpdate::Shorter { requested, actual });
        }
    }

    /// What an event means for the request.
    fn timing_input(&mut self, event: JobEvent) -> Option<TimingInput> {
        let event = match event {
            JobEvent::Answer(answer) => return Some(TimingInput::Answer(answer)),
            JobEvent::LiveEnded | JobEvent::Session(SessionEvent::MediaParticipantsLeft) => {
                return Some(TimingInput::LiveEnded);
            }
            JobEvent::Session(SessionEvent::Machine(event)) => *event,
            JobEvent::Session(_) | JobEvent::Cancel => return None,
        };
        match event {
            MachineEvent::Status(status) => Some(TimingInput::Ready(status == Status::Ready)),
            MachineEvent::Interrupted(_) => Some(TimingInput::Ready(false)),
            MachineEvent::Ended { .. } | MachineEvent::Closed => {
                self.session_over = true;
                Some(TimingInput::SessionOver(None))
            }
            MachineEvent::Failed(error) => {
                self.session_over = true;
                Some(TimingInput::SessionOver(Some(error)))
            }
            _ => None,
        }
    }

    /// Waits for the next event of the download.
    async fn next_download_event(
        &mut self,
        download: &mut Download,
    ) -> Result<Option<DownloadEvent>, Error> {
        loop {
            tokio::select! {
                event = download.next() => return event.transpose(),
                event = self.events.recv() => match event {
                    Some(JobEvent::Cancel) | None => return Err(aborted()),
                    Some(event) => {
                        let is_replaced = is_session_replaced(&event);
                        let input = self.timing_input(event);
                        if is_replaced || matches!(input, Some(TimingInput::SessionOver(_))) {
                            download.session_is_over();
                        }
                    }
                },
            }
        }
    }

    /// Fetches all segments, and passes each to `handle`.
    fn fetch(
        &mut self,
        download: &mut Download,
        mut handle: impl FnMut(ClipSegment) -> Result<(), Error>,
    ) -> Result<SavedClip, Error> {
        let runtime = session::runtime()?;
        let mut saved = SavedClip::default();
        let mut total = 0;
        while let Some(event) = runtime.block_on(self.next_download_event(download))? {
            match event {
                DownloadEvent::NotReady(_) => (self.publish)(JobUpdate::NotReady),
                DownloadEvent::Playlist { total: known, .. } => total = known,
                DownloadEvent::Segment(segment) => {
                    saved.segments += 1;
                    saved.bytes += segment.bytes.len() as u64;
                    handle(segment)?;
                    (self.publish)(JobUpdate::Fetched {
                        fetched: saved.segments,
                        total: total.max(saved.segments),
                        bytes: saved.bytes,
                    });
                }
            }
        }
        Ok(saved)
    }

    /// Hands over the segments, unchanged and as they come.
    fn forward(&mut self, download: &mut Download) -> Result<(), Error> {
        let handoff = self.handoff.clone();
        let saved = self.fetch(download, |segment| match handoff.push(segment.bytes) {
            true => Ok(()),
            false => Err(aborted()),
        })?;
        // In this order: EOS is the last event of a clip.
        (self.publish)(JobUpdate::Saved(saved));
        self.handoff.complete();
        Ok(())
    }

    /// Makes one file of the segments, and hands it over.
    fn assemble(&mut self, download: &mut Download, window: Option<Window>) -> Result<(), Error> {
        let window = window.filter(|_| self.config.settings.trim);
        let mut assembly = Assembly::begin(&self.config.settings.directory(), window)?;
        *lock(&self.handles.canceller) = Some(assembly.canceller());
        let mut saved = self.fetch(download, |segment| assembly.push(segment))?;
        let assembled = assembly.finish()?;
        saved.bytes = assembled.size;
        saved.duration = Some(assembled.duration);
        saved.trimmed = assembled.trimmed;
        let file = CompleteFile {
            file: Arc::new(assembled.file),
            size: assembled.size,
            duration: assembled.duration,
        };
        (self.publish)(JobUpdate::Saved(saved));
        self.handoff.set_complete_file(file);
        Ok(())
    }
}

/// Whether an event of the session matters to a clip.
fn counts(event: &SessionEvent) -> bool {
    match event {
        SessionEvent::MediaParticipantsLeft => true,
        SessionEvent::Machine(event) => matches!(
            **event,
            MachineEvent::Status(_)
                | MachineEvent::SessionId(None)
                | MachineEvent::Interrupted(_)
                | MachineEvent::Ended { .. }
                | MachineEvent::Closed
                | MachineEvent::Failed(_)
        ),
        _ => false,
    }
}

/// Whether another session takes the place of the one that the clip is of
/// (`restart-session`), or nothing does: its recording does not go on.
fn is_session_replaced(event: &JobEvent) -> bool {
    matches!(event, JobEvent::Session(SessionEvent::Machine(event))
        if **event == MachineEvent::SessionId(None))
}

fn expect_clip(result: Result<ServerMessage, Error>) -> Result<Clip, Error> {
    match result? {
        ServerMessage::ClipReady(clip) => Ok(clip),
        _ => {
            let text = "the server answered something else than a clip";
            Err(Error::gpu(Code::DecodeFailed, text))
        }
    }
}

fn aborted() -> Error {
    Error::api(Code::Aborted, "cancelled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_that_matter_are_queued() {
        let machine = |event| SessionEvent::Machine(Box::new(event));
        assert!(counts(&machine(MachineEvent::Status(Status::Ready))));
        assert!(counts(&machine(MachineEvent::Interrupted(None))));
        assert!(counts(&SessionEvent::MediaParticipantsLeft));
        assert!(counts(&machine(MachineEvent::SessionId(None))));
        assert!(!counts(&machine(MachineEvent::SessionId(Some("s".into())))));
        let message = MachineEvent::Message {
            name: "tick".into(),
            data: serde_json::Value::Null,
        };
        assert!(!counts(&machine(message)));
        assert!(!counts(&SessionEvent::Tracks(Vec::new())));
    }

    #[test]
    fn session_replaced_by_another_is_noticed() {
        let event = |event| JobEvent::Session(SessionEvent::Machine(Box::new(event)));
        assert!(is_session_replaced(&event(MachineEvent::SessionId(None))));
        let id = MachineEvent::SessionId(Some("s".into()));
        assert!(!is_session_replaced(&event(id)));
        assert!(!is_session_replaced(&JobEvent::LiveEnded));
    }
}
