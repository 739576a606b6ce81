// SPDX-License-Identifier: MIT

//! Gets one clip, on a thread of its own: finds the session, asks it in time,
//! fetches what it answers, and hands it over.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, mpsc as std_mpsc},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    assembly::{Assembly, Canceller, TrimResult, Window},
    handoff::{Handoff, Whole},
    request_timing::{Decision, Input, RequestTiming, When},
    settings::Format,
};
use crate::{
    element::{clip_structure::ClipServer, lock},
    platform::{
        Code, Error,
        http::HttpClient,
        recording::{ClipSegment, Download, DownloadEvent, DownloadLimits, PlaylistLocation},
        wire::{Clip, ServerMessage},
    },
    session::{
        self, MachineEvent, Participant, ParticipantRole, Session, SessionEvent, Status,
        recording_endpoints, settings::Settings as Access,
    },
};

/// How often a session is looked for that is not there yet.
const FIND_INTERVAL: Duration = Duration::from_millis(50);

/// Seconds that nobody misses.
const SHORTER: f64 = 0.1;

/// Where the clip is.
#[derive(Debug)]
pub enum Origin {
    /// An address.
    Playlist(String),
    /// What a live element answered.
    Clip(Clip, ClipServer),
    /// What the session with this key records.
    Session { key: String, name: String },
}

/// What to do.
#[derive(Debug)]
pub struct Task {
    pub origin: Origin,
    pub when: When,
    /// Seconds; 0 for everything.
    pub duration: f64,
    pub format: Format,
    pub trim: bool,
    pub ready_limit: Option<Duration>,
    pub directory: PathBuf,
    /// What the user gave to be let in with.
    pub access: Access,
    /// The element's path, for the errors of others.
    pub element: String,
}

/// How it goes.
#[derive(Debug)]
pub enum Report {
    /// A session is looked for.
    Searching(String),
    /// Recorded so far, in seconds.
    Recording(f64),
    /// The session has answered.
    Clip(Clip),
    /// With less than was asked for, in seconds.
    Shorter {
        asked: f64,
        given: f64,
    },
    /// The clip is not ready on the server.
    Waiting,
    Progress {
        fetched: u64,
        total: u64,
        bytes: u64,
    },
    Saved(Saved),
    Failed(Error),
    Canceled,
}

/// What was made.
#[derive(Debug, Default)]
pub struct Saved {
    pub pieces: u64,
    /// In the file; what was fetched where there is none.
    pub bytes: u64,
    pub duration: Option<gst::ClockTime>,
    pub cut: Option<TrimResult>,
}

pub type Reporter = Box<dyn Fn(Report) + Send>;

enum JobEvent {
    Session(SessionEvent),
    Answer(Result<Clip, Error>),
    End,
    Cancel,
}

/// A job under way.
pub struct Job {
    happenings: mpsc::UnboundedSender<JobEvent>,
    pub output: Arc<Handoff>,
    shared: Arc<Shared>,
    done: std_mpsc::Receiver<()>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("output", &self.output).finish()
    }
}

#[derive(Default)]
struct Shared {
    canceller: Mutex<Option<Canceller>>,
    session: Mutex<Option<Arc<Session>>>,
}

impl Job {
    /// # Errors
    ///
    /// When the process has no threads left.
    pub fn start(task: Task, report: Reporter) -> Result<Self, Error> {
        let (happenings, receiver) = mpsc::unbounded_channel();
        let (done, is_done) = std_mpsc::channel();
        let output = Arc::new(Handoff::default());
        let shared = Arc::new(Shared::default());
        let worker = Worker {
            task,
            report,
            happenings: receiver,
            sender: happenings.clone(),
            output: output.clone(),
            shared: shared.clone(),
            over: false,
        };
        thread::Builder::new()
            .name("reactorclip".into())
            .spawn(move || {
                worker.run();
                let _ = done.send(());
            })
            .map_err(|error| Error::api(Code::Internal, format!("no thread: {error}")))?;
        Ok(Self {
            happenings,
            output,
            shared,
            done: is_done,
        })
    }

    /// The live elements end: what is to be asked is asked now.
    pub fn end(&self) {
        let _ = self.happenings.send(JobEvent::End);
    }

    /// Gives up, at once; returns the session that it took part in.
    pub fn cancel(self) -> Option<Arc<Session>> {
        let _ = self.happenings.send(JobEvent::Cancel);
        self.output.shut();
        if let Some(canceller) = &*lock(&self.shared.canceller) {
            canceller.cancel();
        }
        let session = lock(&self.shared.session).take();
        if let Some(session) = &session {
            session.leave();
        }
        // It has nothing left to wait for.
        let _ = self.done.recv_timeout(CANCEL_LIMIT);
        session
    }
}

/// How long a thread that was cancelled is waited for.
const CANCEL_LIMIT: Duration = Duration::from_millis(500);

struct Worker {
    task: Task,
    report: Reporter,
    happenings: mpsc::UnboundedReceiver<JobEvent>,
    sender: mpsc::UnboundedSender<JobEvent>,
    output: Arc<Handoff>,
    shared: Arc<Shared>,
    /// The session has ended meanwhile.
    over: bool,
}

/// What happened, or nothing in time.
enum Next {
    JobEvent(JobEvent),
    Late,
}

impl Worker {
    fn run(mut self) {
        let result = self.work();
        // The session is kept until the clip is there.
        if let Some(session) = lock(&self.shared.session).take() {
            session.leave();
        }
        match result {
            Ok(()) => {}
            Err(error) if error.code == Code::Aborted => (self.report)(Report::Canceled),
            Err(error) => {
                (self.report)(Report::Failed(error));
                self.output.fail();
            }
        }
    }

    fn work(&mut self) -> Result<(), Error> {
        let runtime = session::runtime()?;
        let (playlist, window) = runtime.block_on(self.locate())?;
        let limits = DownloadLimits {
            ready_timeout: self.task.ready_limit,
            ..DownloadLimits::default()
        };
        let _entered = runtime.enter();
        let mut download = Download::start(playlist, limits);
        if self.over {
            download.session_is_over();
        }
        match self.task.format {
            Format::Fragmented => self.pass_on(&mut download),
            Format::Faststart => self.assemble(&mut download, window),
        }
    }

    /// Where the clip is, and which part of it was asked for.
    async fn locate(&mut self) -> Result<(PlaylistLocation, Option<Window>), Error> {
        let access = &self.task.access;
        let origin = std::mem::replace(&mut self.task.origin, Origin::Playlist(String::new()));
        let (clip, endpoint) = match origin {
            Origin::Playlist(url) => {
                let playlist = PlaylistLocation::from_url(
                    HttpClient::shared()?,
                    &url,
                    access.token_provider(Some(&url))?,
                )?;
                let window = playlist.window().map(|(start, end)| Window { start, end });
                return Ok((playlist, window));
            }
            Origin::Clip(clip, server) => {
                let endpoint = match recording_endpoints::find_endpoint(&clip.session_id) {
                    Some(endpoint) => endpoint,
                    None => access
                        .with_server(server.api_url, server.local)
                        .endpoint()?,
                };
                (clip, endpoint)
            }
            Origin::Session { key, name } => {
                let clip = self.ask(&key, &name).await?;
                let endpoint =
                    recording_endpoints::find_endpoint(&clip.session_id).ok_or_else(|| {
                        Error::api(Code::Internal, "the recording's server is not known")
                    })?;
                (clip, endpoint)
            }
        };
        let playlist = PlaylistLocation::of_clip(&endpoint, &clip.playlist_url)?;
        let window = Window {
            start: clip.start_marker,
            end: clip.end_marker,
        };
        (self.report)(Report::Clip(clip));
        Ok((playlist, Some(window)))
    }

    async fn next(&mut self, until: Option<Instant>) -> Result<Next, Error> {
        let happening = match until {
            None => self.happenings.recv().await,
            Some(until) => {
                let late = tokio::time::sleep_until(until.into());
                tokio::select! {
                    happening = self.happenings.recv() => happening,
                    () = late => return Ok(Next::Late),
                }
            }
        };
        match happening {
            Some(JobEvent::Cancel) | None => Err(aborted()),
            Some(happening) => Ok(Next::JobEvent(happening)),
        }
    }

    /// Joins the session, as soon as there is one.
    async fn join(&mut self, key: &str, name: &str) -> Result<Arc<Session>, Error> {
        let begun = Instant::now();
        (self.report)(Report::Searching(name.to_owned()));
        loop {
            let sender = self.sender.clone();
            let events = Box::new(move |event| {
                let _ = sender.send(JobEvent::Session(event));
            });
            let member = Participant {
                element: self.task.element.clone(),
                role: ParticipantRole::Clip,
            };
            if let Some(session) = Session::find(key, member, events) {
                let session = Arc::new(session);
                *lock(&self.shared.session) = Some(session.clone());
                return Ok(session);
            }
            let limit = self.task.ready_limit;
            if limit.is_some_and(|limit| begun.elapsed() > limit) {
                let text = format!(
                    "there is no session {name}; start a reactorsrc or reactorsink with \
                     the same 'session', or set playlist-url"
                );
                return Err(Error::api(Code::NotFound, text));
            }
            // Without a session there is nothing to keep of it at its end.
            if let Next::JobEvent(JobEvent::End) =
                self.next(Some(Instant::now() + FIND_INTERVAL)).await?
            {
                let text = format!("there is no session {name}, so there is nothing to save");
                return Err(Error::api(Code::NotFound, text));
            }
        }
    }

    /// Asks the session for the clip when the time has come.
    async fn ask(&mut self, key: &str, name: &str) -> Result<Clip, Error> {
        let session = self.join(key, name).await?;
        let mut moment = RequestTiming::new(self.task.when, self.task.duration);
        let epoch = Instant::now();
        let mut decision = moment.handle(Duration::ZERO, Input::Tick);
        loop {
            let until = match decision {
                Decision::Take(clip) => {
                    self.compare(&clip);
                    return Ok(clip);
                }
                Decision::Fail(error) => return Err(error.during("request_clip")),
                Decision::Wait(until) => until.map(|at| epoch + at),
                Decision::Ask(message) => {
                    let sender = self.sender.clone();
                    let reply = move |result| {
                        let _ = sender.send(JobEvent::Answer(clip_of(result)));
                    };
                    session.request(message, Box::new(reply));
                    None
                }
            };
            let input = match self.next(until).await? {
                Next::Late => Some(Input::Tick),
                Next::JobEvent(happening) => self.input(happening),
            };
            decision = match input {
                Some(input) => moment.handle(epoch.elapsed(), input),
                None => Decision::Wait(until.map(|at| at - epoch)),
            };
            (self.report)(Report::Recording(moment.recorded()));
        }
    }

    /// Less than was asked for may be all that there is, or all that the
    /// platform gives in one clip.
    fn compare(&self, clip: &Clip) {
        let given = clip.end_marker - clip.start_marker;
        let asked = self.task.duration;
        if self.task.when != When::Now && given + SHORTER < asked {
            (self.report)(Report::Shorter { asked, given });
        }
    }

    /// What a happening means for the question.
    fn input(&mut self, happening: JobEvent) -> Option<Input> {
        let event = match happening {
            JobEvent::Answer(answer) => return Some(Input::Answer(answer)),
            JobEvent::End | JobEvent::Session(SessionEvent::MediaParticipantsLeft) => {
                return Some(Input::End);
            }
            JobEvent::Session(SessionEvent::Machine(event)) => *event,
            JobEvent::Session(_) | JobEvent::Cancel => return None,
        };
        match event {
            MachineEvent::Status(status) => Some(Input::Ready(status == Status::Ready)),
            MachineEvent::Interrupted(_) => Some(Input::Ready(false)),
            MachineEvent::Ended { .. } | MachineEvent::Closed => {
                self.over = true;
                Some(Input::Over(None))
            }
            MachineEvent::Failed(error) => {
                self.over = true;
                Some(Input::Over(Some(error)))
            }
            _ => None,
        }
    }

    /// The next piece of the download.
    async fn piece(&mut self, download: &mut Download) -> Result<Option<DownloadEvent>, Error> {
        loop {
            tokio::select! {
                step = download.next() => return step.transpose(),
                happening = self.happenings.recv() => match happening {
                    Some(JobEvent::Cancel) | None => return Err(aborted()),
                    Some(happening) => {
                        if matches!(self.input(happening), Some(Input::Over(_))) {
                            download.session_is_over();
                        }
                    }
                },
            }
        }
    }

    /// Fetches everything, and hands each piece on.
    fn fetch(
        &mut self,
        download: &mut Download,
        mut take: impl FnMut(ClipSegment) -> Result<(), Error>,
    ) -> Result<Saved, Error> {
        let runtime = session::runtime()?;
        let mut saved = Saved::default();
        let mut total = 0;
        while let Some(step) = runtime.block_on(self.piece(download))? {
            match step {
                DownloadEvent::NotReady(_) => (self.report)(Report::Waiting),
                DownloadEvent::Playlist { total: known, .. } => total = known,
                DownloadEvent::Segment(segment) => {
                    saved.pieces += 1;
                    saved.bytes += segment.bytes.len() as u64;
                    take(segment)?;
                    (self.report)(Report::Progress {
                        fetched: saved.pieces,
                        total: total.max(saved.pieces),
                        bytes: saved.bytes,
                    });
                }
            }
        }
        Ok(saved)
    }

    /// The pieces, as they are and as they come.
    fn pass_on(&mut self, download: &mut Download) -> Result<(), Error> {
        let output = self.output.clone();
        let saved = self.fetch(download, |piece| match output.push(piece.bytes) {
            true => Ok(()),
            false => Err(aborted()),
        })?;
        // In this order: EOS is the last that is heard of it.
        (self.report)(Report::Saved(saved));
        self.output.complete();
        Ok(())
    }

    /// One file of all of them.
    fn assemble(&mut self, download: &mut Download, window: Option<Window>) -> Result<(), Error> {
        let window = window.filter(|_| self.task.trim);
        let mut assembly = Assembly::begin(&self.task.directory, window)?;
        *lock(&self.shared.canceller) = Some(assembly.canceller());
        let mut saved = self.fetch(download, |piece| assembly.push(piece))?;
        let assembled = assembly.finish()?;
        saved.bytes = assembled.size;
        saved.duration = Some(assembled.duration);
        saved.cut = assembled.trimmed;
        let whole = Whole {
            file: Arc::new(assembled.file),
            size: assembled.size,
            duration: assembled.duration,
        };
        (self.report)(Report::Saved(saved));
        self.output.set_whole(whole);
        Ok(())
    }
}

fn clip_of(result: Result<ServerMessage, Error>) -> Result<Clip, Error> {
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
