// SPDX-License-Identifier: MIT

//! The queue of commands and uploads: executes them in order once the session is
//! ready, checks a command's arguments and then uploads its files first. Runs on
//! a task of its own; it never waits for the reply to a command.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout, timeout_at},
};

use super::{
    machine::{READY_LIMIT, disconnected_error, not_ready_error},
    replies::{Reply, ReplyCallback, UploadCallback},
};
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
    /// The application took the connection down.
    Suspended,
    Over,
}

/// A command or an upload that waits for its turn.
pub enum QueuedCommand {
    Command {
        command: ModelCommand,
        /// Check the arguments against the schema.
        check: bool,
        /// Of each file, in bytes; 0 for no limit.
        max_upload_size: u64,
        /// When it fails unless the session is ready; `None` for never.
        deadline: Option<Instant>,
        reply: ReplyCallback,
    },
    Upload {
        /// The content, or the path of the file to read.
        source: Result<UploadSource, PathBuf>,
        /// Instead of the file's name.
        name: Option<String>,
        /// Instead of the type that the file's name stands for.
        mime: Option<String>,
        /// In bytes; 0 for no limit.
        max_upload_size: u64,
        /// When it fails unless the session is ready; `None` for never.
        deadline: Option<Instant>,
        reply: UploadCallback,
    },
}

/// The deadline of a request that is made now and needs the session.
pub fn ready_deadline() -> Option<Instant> {
    Instant::now().checked_add(READY_LIMIT)
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
                    max_upload_size,
                    deadline,
                    reply,
                } => match self.session_id(deadline).await {
                    Ok(id) => match self.prepare(&id, command, check, max_upload_size).await {
                        Ok(message) => (self.request)(message, reply),
                        Err(error) => reply.send(Err(error.during("send_command"))),
                    },
                    Err(error) => reply.send(Err(error.during("send_command"))),
                },
                QueuedCommand::Upload {
                    source,
                    name,
                    mime,
                    max_upload_size,
                    deadline,
                    reply,
                } => {
                    let source = read_source(source, name, mime, max_upload_size);
                    let result = self.upload_when_ready(source, deadline).await;
                    reply.send(result.map_err(|error| error.during("upload")));
                }
            }
        }
    }

    /// Checks a command's arguments, and then uploads its files: nothing is
    /// uploaded that the schema does not allow.
    async fn prepare(
        &mut self,
        id: &str,
        command: ModelCommand,
        check: bool,
        max_upload_size: u64,
    ) -> Result<ClientMessage, Error> {
        let ModelCommand { name, data, files } = command;
        if check && let Some(schema) = self.schema().await {
            schema.check(&name, &data, &files)?;
        }
        let mut uploads = BTreeMap::new();
        for (parameter, path) in files {
            let source = read_file(&path, None, max_upload_size).await?;
            uploads.insert(parameter, self.upload(id, &source).await?);
        }
        Ok(ClientMessage::Command {
            name,
            data,
            uploads,
        })
    }

    async fn upload_when_ready(
        &mut self,
        source: impl Future<Output = Result<UploadSource, Error>>,
        deadline: Option<Instant>,
    ) -> Result<FileRef, Error> {
        let id = self.session_id(deadline).await?;
        self.upload(&id, &source.await?).await
    }

    async fn upload(&self, session_id: &str, source: &UploadSource) -> Result<FileRef, Error> {
        let file = self.coordinator.uploads(session_id).upload(source).await?;
        // For models with a hook for uploads; there is no reply to it.
        (self.request)(ClientMessage::FileUploaded(file.clone()), Reply::ignored());
        Ok(file)
    }

    /// Waits until the session is ready, at most until `deadline`.
    async fn session_id(&mut self, deadline: Option<Instant>) -> Result<String, Error> {
        let decided = |r: &Readiness| !matches!(r, Readiness::NotYet);
        let wait = self.readiness.wait_for(decided);
        let readiness = match deadline {
            Some(at) => timeout_at(at, wait).await.map_err(|_| not_ready_error())?,
            None => wait.await,
        };
        match readiness.as_deref() {
            Ok(Readiness::Ready(id, _)) => Ok(id.clone()),
            Ok(Readiness::Suspended) => Err(disconnected_error()),
            _ => Err(Error::gpu(
                Code::InvalidState,
                "the session ended before the command was sent",
            )),
        }
    }

    /// Waits for the model's schema, at most for [`SCHEMA_LIMIT`].
    async fn schema(&mut self) -> Option<Arc<Schema>> {
        let known = |r: &Readiness| !matches!(r, Readiness::NotYet | Readiness::Ready(_, None));
        let wait = self.readiness.wait_for(known);
        match timeout(SCHEMA_LIMIT, wait).await.ok()?.as_deref() {
            Ok(Readiness::Ready(_, schema)) => schema.clone(),
            _ => None,
        }
    }
}

/// Reads what is to be uploaded, unless the content is given.
async fn read_source(
    source: Result<UploadSource, PathBuf>,
    name: Option<String>,
    mime: Option<String>,
    max_size: u64,
) -> Result<UploadSource, Error> {
    let source = match source {
        Ok(source) => source,
        Err(path) => read_file(&path, mime.as_deref(), max_size).await?,
    };
    Ok(match name {
        Some(name) => source.with_name(&name),
        None => source,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::platform::http::testing::Server;

    /// Runs one command of the property `commands` in a session whose schema has
    /// a command `set_prompt` with a text, and returns why it was refused.
    async fn refusal(server: &Server, commands: &str) -> Error {
        let document = json!({"openapi": "3.1.0", "paths": {"/events/set_prompt": {"post": {
            "requestBody": {"content": {"application/json": {"schema": {
                "type": "object", "properties": {"prompt": {"type": "string"}},
            }}}},
        }}}});
        let schema = Arc::new(Schema::parse(&document).unwrap());
        let (_ready, readiness) = watch::channel(Readiness::Ready("s".into(), Some(schema)));
        let queue = CommandQueue {
            coordinator: Coordinator::local(server.base()).unwrap(),
            readiness,
            request: Box::new(|message, _| panic!("{message:?} was sent")),
        };
        let (sender, receiver) = mpsc::unbounded_channel();
        let (told, mut result) = mpsc::unbounded_channel();
        let command = ModelCommand::parse_list(commands).unwrap().remove(0);
        let command = QueuedCommand::Command {
            command,
            check: true,
            max_upload_size: 0,
            deadline: None,
            reply: Reply::new(move |result| told.send(result).unwrap()),
        };
        assert!(sender.send(command).is_ok());
        drop(sender);
        queue.run(receiver).await;
        result.recv().await.unwrap().unwrap_err()
    }

    #[tokio::test]
    async fn refused_file_is_not_uploaded() {
        let server = Server::start([]).await;
        let file = r#"[{"set_prompt":{"prompt":"@file:/proc/self/exe"}}]"#;
        let error = refusal(&server, file).await;
        assert!(error.message.contains("takes no file"), "{error}");
        assert!(server.requests().is_empty());
    }
}
