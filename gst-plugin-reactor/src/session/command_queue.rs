// SPDX-License-Identifier: MIT

//! Commands on their way to the model: in order, with their files uploaded
//! and their arguments checked first.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::{mpsc, watch};

use super::{DriverMessage, ReplyCallback};
use crate::platform::{
    Code, Error,
    commands::ModelCommand,
    coordinator::Coordinator,
    schema::Schema,
    upload::{UploadSource, read_file},
    wire::{ClientMessage, FileRef},
};

/// The schema comes with the server's first words. A model without one is
/// spoken to unchecked.
const SCHEMA_LIMIT: Duration = Duration::from_secs(2);

/// What the commands wait for.
#[derive(Debug, Clone, Default)]
pub(super) enum Readiness {
    #[default]
    NotYet,
    /// The session's id; its schema once that is known.
    Ready(String, Option<std::sync::Arc<Schema>>),
    Over,
}

/// One thing to do, in its turn.
pub enum QueuedCommand {
    Command {
        command: ModelCommand,
        /// Against the schema.
        check: bool,
        reply: ReplyCallback,
    },
    Upload {
        source: Result<UploadSource, std::path::PathBuf>,
        /// Instead of what the file's name tells.
        name: Option<String>,
        mime: Option<String>,
        reply: UploadCallback,
    },
}

impl QueuedCommand {
    /// Answers that it will not be done.
    pub(super) fn refuse(self, error: Error) {
        match self {
            Self::Command { reply, .. } => reply(Err(error)),
            Self::Upload { reply, .. } => reply(Err(error)),
        }
    }
}

/// Called once with the reference to an uploaded file.
pub type UploadCallback = Box<dyn FnOnce(Result<FileRef, Error>) + Send>;

pub(super) struct CommandQueue {
    pub coordinator: Coordinator,
    pub readiness: watch::Receiver<Readiness>,
    pub messages: mpsc::WeakUnboundedSender<DriverMessage>,
}

impl CommandQueue {
    /// Carries orders out one after the other; replies come when they come.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<QueuedCommand>) {
        while let Some(order) = orders.recv().await {
            match order {
                QueuedCommand::Command {
                    command,
                    check,
                    reply,
                } => match self.prepare(command, check).await {
                    Ok(message) => self.send(message, reply),
                    Err(error) => reply(Err(error.during("send_command"))),
                },
                QueuedCommand::Upload {
                    source,
                    name,
                    mime,
                    reply,
                } => reply(self.upload_order(source, name, mime).await),
            }
        }
    }

    fn send(&self, message: ClientMessage, reply: ReplyCallback) {
        match self.messages.upgrade() {
            Some(messages) => {
                let _ = messages.send(DriverMessage::Request(message, reply));
            }
            None => reply(Err(super::closed())),
        }
    }

    async fn prepare(
        &mut self,
        command: ModelCommand,
        check: bool,
    ) -> Result<ClientMessage, Error> {
        let id = self.session().await?;
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

    async fn upload_order(
        &mut self,
        source: Result<UploadSource, std::path::PathBuf>,
        name: Option<String>,
        mime: Option<String>,
    ) -> Result<FileRef, Error> {
        let id = self.session().await?;
        let source = match source {
            Ok(source) => source,
            Err(path) => read_file(&path, mime.as_deref()).await?,
        };
        let source = match name {
            Some(name) => source.named(&name),
            None => source,
        };
        self.upload(&id, &source).await
    }

    async fn upload(&self, session_id: &str, source: &UploadSource) -> Result<FileRef, Error> {
        let file = self.coordinator.uploads(session_id).upload(source).await?;
        // Models with a hook for uploads hear of it; nothing is replied.
        self.send(ClientMessage::FileUploaded(file.clone()), Box::new(|_| {}));
        Ok(file)
    }

    /// Waits until there is a session to command.
    async fn session(&mut self) -> Result<String, Error> {
        let ready = |r: &Readiness| !matches!(r, Readiness::NotYet);
        match self.readiness.wait_for(ready).await.as_deref() {
            Ok(Readiness::Ready(id, _)) => Ok(id.clone()),
            _ => Err(Error::gpu(
                Code::InvalidState,
                "the session ended before the command was sent",
            )),
        }
    }

    async fn schema(&mut self) -> Option<std::sync::Arc<Schema>> {
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
