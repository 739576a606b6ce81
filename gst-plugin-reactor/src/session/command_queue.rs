// SPDX-License-Identifier: MIT

//! The queue of commands: checks each command's arguments and sends it, in order,
//! once the session is ready. A file that is to be uploaded delays the commands
//! of its own batch only. Runs on a task of its own; uploads are tasks of its.
//! It never waits for the reply to a command.

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    machine::{READY_LIMIT, disconnected_error, not_ready_error},
    replies::{Reply, ReplyCallback, UploadCallback},
};
use crate::platform::{
    Code, Error,
    command_content::CommandContent,
    commands::{CommandFile, ModelCommand},
    coordinator::Coordinator,
    schema::Schema,
    upload::{UploadProgress, UploadSource, read_file},
    wire::{ClientMessage, FileRef},
};

#[cfg(test)]
mod tests;

/// How long to wait for the schema, which the server sends with its first
/// messages. Commands to a model without one are sent unchecked.
const SCHEMA_LIMIT: Duration = Duration::from_secs(2);

/// How many files are uploaded at once: each is in memory as a whole.
const UPLOADS_AT_ONCE: usize = 4;

/// Whether commands can be sent.
#[derive(Debug, Clone, Default)]
pub(super) enum Readiness {
    #[default]
    NotYet,
    /// The session's id, and the model's schema once that is known.
    Ready(String, Option<Arc<Schema>>),
    /// The application took the connection down.
    Suspended,
    Over,
}

/// Commands or an upload that wait for their turn.
pub enum QueuedCommand {
    /// A batch: a command in it is sent after those before it, and after the
    /// upload of their files.
    Commands(Vec<CommandRequest>),
    Upload(UploadRequest),
}

/// A command, and how it is to be sent.
pub struct CommandRequest {
    pub command: CommandContent,
    /// Check the arguments against the schema.
    pub check: bool,
    /// Of each file, in bytes; 0 for no limit.
    pub max_upload_size: u64,
    /// When it fails unless the session is ready; `None` for never.
    pub deadline: Option<Instant>,
    pub progress: UploadProgress,
    pub reply: ReplyCallback,
}

/// A file to be uploaded, which no command waits for.
pub struct UploadRequest {
    pub source: UploadContent,
    /// In bytes; 0 for no limit.
    pub max_upload_size: u64,
    /// When it fails unless the session is ready; `None` for never.
    pub deadline: Option<Instant>,
    pub progress: UploadProgress,
    pub reply: UploadCallback,
}

/// What is to be uploaded.
pub enum UploadContent {
    Bytes(UploadSource),
    File {
        path: PathBuf,
        /// Instead of the file's name.
        name: Option<String>,
        /// Instead of the type that the name stands for.
        mime: Option<String>,
    },
}

/// The deadline of a request that is made now and needs the session.
pub fn ready_deadline() -> Option<Instant> {
    Instant::now().checked_add(READY_LIMIT)
}

/// Sends a message to the server.
pub(super) type RequestSender = Arc<dyn Fn(ClientMessage, ReplyCallback) + Send + Sync>;

/// The commands of a batch that are not sent yet, the oldest first.
type Batch = VecDeque<CommandRequest>;

/// A batch whose first command has its files uploaded.
struct Uploaded {
    message: Result<ClientMessage, Error>,
    reply: ReplyCallback,
    rest: Batch,
}

/// Whether a command can be sent now.
enum Turn {
    Wait,
    /// The session's id and the schema to check the command against.
    Send(String, Option<Arc<Schema>>),
    Fail(Error),
}

pub(super) struct CommandQueue {
    readiness: watch::Receiver<Readiness>,
    uploader: Uploader,
    /// The batches that wait, the oldest first.
    waiting: VecDeque<Batch>,
    /// The uploads; one for a command ends with its batch.
    uploads: JoinSet<Option<Uploaded>>,
    /// Until when to wait for the schema of the session that is ready.
    schema_deadline: Option<Instant>,
}

impl CommandQueue {
    pub(super) fn new(
        coordinator: Coordinator,
        readiness: watch::Receiver<Readiness>,
        request: RequestSender,
    ) -> Self {
        Self {
            readiness,
            uploader: Uploader {
                coordinator,
                request,
                permits: Arc::new(Semaphore::new(UPLOADS_AT_ONCE)),
            },
            waiting: VecDeque::new(),
            uploads: JoinSet::new(),
            schema_deadline: None,
        }
    }

    /// Sends commands until the driver has ended. What is left then is dropped,
    /// and so answered.
    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<QueuedCommand>) {
        let mut is_open = true;
        while is_open || !self.waiting.is_empty() || !self.uploads.is_empty() {
            let deadline = self.next_deadline();
            let timer = async {
                match deadline {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv(), if is_open => match command {
                    Some(command) => self.accept(command),
                    None => is_open = false,
                },
                changed = self.readiness.changed() => if changed.is_err() {
                    return;
                },
                Some(finished) = self.uploads.join_next(), if !self.uploads.is_empty() => {
                    if let Ok(Some(uploaded)) = finished {
                        self.finish_upload(uploaded);
                    }
                }
                () = timer => {}
            }
            self.advance();
        }
    }

    fn accept(&mut self, command: QueuedCommand) {
        match command {
            QueuedCommand::Commands(commands) => self.waiting.push_back(commands.into()),
            QueuedCommand::Upload(upload) => {
                let (uploader, readiness) = (self.uploader.clone(), self.readiness.clone());
                self.uploads.spawn(async move {
                    uploader.run(readiness, upload).await;
                    None
                });
            }
        }
    }

    /// The next time at which a command fails, or is sent without a schema.
    fn next_deadline(&self) -> Option<Instant> {
        match &*self.readiness.borrow() {
            Readiness::NotYet => {
                let commands = self.waiting.iter().flatten();
                commands.filter_map(|command| command.deadline).min()
            }
            _ if self.waiting.is_empty() => None,
            _ => self.schema_deadline,
        }
    }

    /// Sends what can be sent, and fails what has waited for too long.
    fn advance(&mut self) {
        self.update_schema_deadline();
        while let Some(mut batch) = self.waiting.pop_front() {
            while let Some(command) = batch.front() {
                match self.turn(command) {
                    Turn::Wait => {
                        self.waiting.push_front(batch);
                        return self.fail_late();
                    }
                    Turn::Send(id, schema) => {
                        if let Some(command) = batch.pop_front()
                            && let Some(upload) = self.send(id, schema.as_deref(), command)
                        {
                            let rest = std::mem::take(&mut batch);
                            self.uploads
                                .spawn(async move { Some(upload.finish(rest).await) });
                        }
                    }
                    Turn::Fail(error) => {
                        if let Some(command) = batch.pop_front() {
                            command.reply.send(Err(error.during("send_command")));
                        }
                    }
                }
            }
        }
    }

    /// The wait for a schema begins when a session is ready.
    fn update_schema_deadline(&mut self) {
        let awaits_schema = matches!(
            &*self.readiness.borrow_and_update(),
            Readiness::Ready(_, None)
        );
        self.schema_deadline = match awaits_schema {
            true => Some(
                self.schema_deadline
                    .unwrap_or_else(|| Instant::now() + SCHEMA_LIMIT),
            ),
            false => None,
        };
    }

    fn turn(&self, command: &CommandRequest) -> Turn {
        match &*self.readiness.borrow() {
            Readiness::NotYet => Turn::Wait,
            Readiness::Ready(_, None)
                if (command.check || command.command.needs_schema())
                    && self.schema_deadline.is_some_and(|at| Instant::now() < at) =>
            {
                Turn::Wait
            }
            Readiness::Ready(id, schema) => Turn::Send(id.clone(), schema.clone()),
            Readiness::Suspended => Turn::Fail(disconnected_error()),
            Readiness::Over => Turn::Fail(ended_error()),
        }
    }

    /// Fails the commands whose session was not ready in time.
    fn fail_late(&mut self) {
        if !matches!(&*self.readiness.borrow(), Readiness::NotYet) {
            return;
        }
        let now = Instant::now();
        for batch in &mut self.waiting {
            while batch
                .front()
                .is_some_and(|c| c.deadline.is_some_and(|at| at <= now))
            {
                if let Some(command) = batch.pop_front() {
                    let error = not_ready_error().during("send_command");
                    command.reply.send(Err(error));
                }
            }
        }
        self.waiting.retain(|batch| !batch.is_empty());
    }

    /// Checks a command and sends it, or returns the upload of its files: nothing
    /// is uploaded that the schema does not allow.
    fn send(
        &self,
        session_id: String,
        schema: Option<&Schema>,
        request: CommandRequest,
    ) -> Option<CommandUpload> {
        let CommandRequest {
            command,
            reply,
            progress,
            ..
        } = request;
        let mut command = match command.resolve(schema) {
            Ok(command) => command,
            Err(error) => {
                reply.send(Err(error));
                return None;
            }
        };
        let name = command.name.clone();
        command.take_references(|parameter| {
            schema.is_none_or(|schema| schema.takes_file(&name, parameter))
        });
        if request.check
            && let Some(schema) = schema
            && let Err(error) = schema.check(&command.name, &command.data, &command.files)
        {
            reply.send(Err(error));
            return None;
        }
        let upload = CommandUpload {
            uploader: self.uploader.clone(),
            session_id,
            max_upload_size: request.max_upload_size,
            progress,
            command,
            reply,
        };
        let mut files = upload.command.files.values();
        if files.any(|file| !matches!(file, CommandFile::Uploaded(_))) {
            return Some(upload);
        }
        let (message, reply) = upload.into_message();
        (self.uploader.request)(message, reply);
        None
    }

    /// Sends a command whose files are uploaded; the rest of its batch is next.
    fn finish_upload(&mut self, uploaded: Uploaded) {
        let Uploaded {
            message,
            reply,
            rest,
        } = uploaded;
        match message {
            Ok(message) => (self.uploader.request)(message, reply),
            Err(error) => reply.send(Err(error.during("send_command"))),
        }
        if !rest.is_empty() {
            self.waiting.push_front(rest);
        }
    }
}

/// Uploads files, some at once.
#[derive(Clone)]
struct Uploader {
    coordinator: Coordinator,
    request: RequestSender,
    permits: Arc<Semaphore>,
}

impl Uploader {
    /// Carries out an upload that no command waits for.
    async fn run(&self, readiness: watch::Receiver<Readiness>, upload: UploadRequest) {
        let UploadRequest {
            source,
            max_upload_size,
            deadline,
            progress,
            reply,
        } = upload;
        let result = match session_id(readiness, deadline).await {
            Ok(id) => self.upload(&id, source, max_upload_size, progress).await,
            Err(error) => Err(error),
        };
        reply.send(result.map_err(|error| error.during("upload")));
    }

    async fn upload(
        &self,
        session_id: &str,
        source: UploadContent,
        max_size: u64,
        progress: UploadProgress,
    ) -> Result<FileRef, Error> {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let source = match source {
            UploadContent::Bytes(source) => source,
            UploadContent::File { path, name, mime } => {
                read_file(&path, name.as_deref(), mime.as_deref(), max_size).await?
            }
        };
        let uploads = self.coordinator.uploads(session_id);
        let file = uploads.upload(&source, progress).await?;
        // For models with a hook for uploads; there is no reply to it.
        (self.request)(ClientMessage::FileUploaded(file.clone()), Reply::ignored());
        Ok(file)
    }
}

/// The upload of a command's files.
struct CommandUpload {
    uploader: Uploader,
    session_id: String,
    max_upload_size: u64,
    progress: UploadProgress,
    command: ModelCommand,
    reply: ReplyCallback,
}

impl CommandUpload {
    async fn finish(mut self, rest: Batch) -> Uploaded {
        let result = self.upload_files().await;
        let (message, reply) = self.into_message();
        Uploaded {
            message: result.map(|()| message),
            reply,
            rest,
        }
    }

    /// Uploads each file that is not uploaded yet.
    async fn upload_files(&mut self) -> Result<(), Error> {
        for file in self.command.files.values_mut() {
            let source = match file {
                CommandFile::Local(path) => UploadContent::File {
                    path: path.clone(),
                    name: None,
                    mime: None,
                },
                CommandFile::Bytes(source) => UploadContent::Bytes(source.clone()),
                CommandFile::Uploaded(_) => continue,
            };
            let progress = self.progress.clone();
            let uploaded = self
                .uploader
                .upload(&self.session_id, source, self.max_upload_size, progress)
                .await?;
            *file = CommandFile::Uploaded(uploaded);
        }
        Ok(())
    }

    /// The command, with the files that are uploaded.
    fn into_message(self) -> (ClientMessage, ReplyCallback) {
        let ModelCommand { name, data, files } = self.command;
        let files = files.into_iter();
        let uploads = files
            .filter_map(|(parameter, file)| match file {
                CommandFile::Uploaded(file) => Some((parameter, file)),
                CommandFile::Local(_) | CommandFile::Bytes(_) => None,
            })
            .collect();
        let message = ClientMessage::Command {
            name,
            data,
            uploads,
        };
        (message, self.reply)
    }
}

/// Waits until the session is ready, at most until `deadline`.
async fn session_id(
    mut readiness: watch::Receiver<Readiness>,
    deadline: Option<Instant>,
) -> Result<String, Error> {
    let decided = |r: &Readiness| !matches!(r, Readiness::NotYet);
    let wait = readiness.wait_for(decided);
    let readiness = match deadline {
        Some(at) => timeout_at(at, wait).await.map_err(|_| not_ready_error())?,
        None => wait.await,
    };
    match readiness.as_deref() {
        Ok(Readiness::Ready(id, _)) => Ok(id.clone()),
        Ok(Readiness::Suspended) => Err(disconnected_error()),
        _ => Err(ended_error()),
    }
}

/// The error for a request to a session that has ended.
fn ended_error() -> Error {
    let text = "the session ended before the request was sent";
    Error::gpu(Code::Disconnected, text)
}
