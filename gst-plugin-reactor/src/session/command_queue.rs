// SPDX-License-Identifier: MIT

//! The queue of commands and uploads: executes them in order once the session is
//! ready, uploads the files of a command and checks its arguments first. Runs on
//! a task of its own; it never waits for the reply to a command.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};

use super::replies::{ReplyCallback, UploadCallback};
use crate::platform::{
    Code, Error,
    commands::ModelCommand,
    coordinator::Coordinator,
    schema::Schema,
    upload::{UploadSource, read_file},
    wire::{ClientMessage, FileRef},
};

/// How long to wait for the schema, which the server sends with its first
/// messages. Commands to a model without one are sent unchecked.
const SCHEMA_LIMIT: Duration = Duration::from_secs(2);

/// Whether commands can be sent.
#[derive(Debug, Clone, Default)]
pub(super) enum Readiness {
    #[default]
    NotYet,
    /// The session's id, and the model's schema once that is known.
    Ready(String, Option<Arc<Schema>>),
    Over,
}

/// A command or an upload that waits for its turn.
pub enum QueuedCommand {
    Command {
        command: ModelCommand,
        /// Check the arguments against the schema.
        check: bool,
        reply: ReplyCallback,
    },
    Upload {
        /// The content, or the path of the file to read.
        source: Result<UploadSource, PathBuf>,
        /// Instead of the file's name.
        name: Option<String>,
        /// Instead of the type that the file's name stands for.
        mime: Option<String>,
        reply: UploadCallback,
    },
}

impl QueuedCommand {
    /// Replies with an error instead.
    pub(super) fn refuse(self, error: Error) {
        match self {
            Self::Command { reply, .. } => reply(Err(error)),
            Self::Upload { reply, .. } => reply(Err(error)),
        }
    }
}

/// Sends a message to the server.
pub(super) type RequestSender = Box<dyn Fn(ClientMessage, ReplyCallback) + Send + Sync>;

pub(super) struct CommandQueue {
    pub coordinator: Coordinator,
    pub readiness: watch::Receiver<Readiness>,
    pub request: RequestSender,
}

impl CommandQueue {
    /// Executes commands one after the other, without waiting for their replies.
    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<QueuedCommand>) {
        while let Some(command) = commands.recv().await {
            match command {
                QueuedCommand::Command {
                    command,
                    check,
                    reply,
                } => match self.prepare(command, check).await {
                    Ok(message) => (self.request)(message, reply),
                    Err(error) => reply(Err(error.during("send_command"))),
                },
                QueuedCommand::Upload {
                    source,
                    name,
                    mime,
                    reply,
                } => reply(self.upload_named(source, name, mime).await),
            }
        }
    }

    /// UploadReferences a command's files and checks its arguments.
    async fn prepare(
        &mut self,
        command: ModelCommand,
        check: bool,
    ) -> Result<ClientMessage, Error> {
        let id = self.session_id().await?;
        let ModelCommand { name, data, files } = command;
        let mut uploads = BTreeMap::new();
        for (parameter, path) in files {
            let source = read_file(&path, None).await?;
            uploads.insert(parameter, self.upload(&id, &source).await?);
        }
        if check && let Some(schema) = self.schema().await {
            schema.check(&name, &data, &uploads)?;
        }
        Ok(ClientMessage::Command {
            name,
            data,
            uploads,
        })
    }

    async fn upload_named(
        &mut self,
        source: Result<UploadSource, PathBuf>,
        name: Option<String>,
        mime: Option<String>,
    ) -> Result<FileRef, Error> {
        let id = self.session_id().await?;
        let source = match source {
            Ok(source) => source,
            Err(path) => read_file(&path, mime.as_deref()).await?,
        };
        let source = match name {
            Some(name) => source.with_name(&name),
            None => source,
        };
        self.upload(&id, &source).await
    }

    async fn upload(&self, session_id: &str, source: &UploadSource) -> Result<FileRef, Error> {
        let file = self.coordinator.uploads(session_id).upload(source).await?;
        // For models with a hook for uploads; there is no reply to it.
        (self.request)(ClientMessage::FileUploaded(file.clone()), Box::new(|_| {}));
        Ok(file)
    }

    /// Waits until the session is ready.
    async fn session_id(&mut self) -> Result<String, Error> {
        let ready = |r: &Readiness| !matches!(r, Readiness::NotYet);
        match self.readiness.wait_for(ready).await.as_deref() {
            Ok(Readiness::Ready(id, _)) => Ok(id.clone()),
            _ => Err(Error::gpu(
                Code::InvalidState,
                "the session ended before the command was sent",
            )),
        }
    }

    /// Waits for the model's schema, at most for [`SCHEMA_LIMIT`].
    async fn schema(&mut self) -> Option<Arc<Schema>> {
        let known = |r: &Readiness| matches!(r, Readiness::Ready(_, Some(_)) | Readiness::Over);
        let wait = self.readiness.wait_for(known);
        match tokio::time::timeout(SCHEMA_LIMIT, wait)
            .await
            .ok()?
            .as_deref()
        {
            Ok(Readiness::Ready(_, schema)) => schema.clone(),
            _ => None,
        }
    }
}
