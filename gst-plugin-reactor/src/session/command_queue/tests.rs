// SPDX-License-Identifier: MIT

use std::path::Path;

use serde_json::{Map, Value, json};
use tokio::{task::JoinHandle, time::timeout};

use super::*;
use crate::platform::{
    coordinator::RunningSession,
    http::testing::{Answer, Server},
};

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(10);

/// How long the storage takes for a file.
const UPLOAD: Duration = Duration::from_millis(300);

/// A queue before a server, with what it sends and what it replies.
struct Queue {
    server: Server,
    readiness: watch::Sender<Readiness>,
    commands: mpsc::UnboundedSender<QueuedCommand>,
    /// The commands that were sent, or why not, in order.
    outcomes: mpsc::UnboundedReceiver<Result<ClientMessage, Error>>,
    outcome: mpsc::UnboundedSender<Result<ClientMessage, Error>>,
    task: JoinHandle<()>,
}

impl Queue {
    async fn start() -> Self {
        let server = Server::with_handler(|request| match request.path() {
            path if path.ends_with("/uploads") => {
                let slot = json!({"presigned_id": "id", "presigned_url": "/put"});
                Answer::new(201, slot.to_string())
            }
            _ => Answer::new(200, "").delayed(UPLOAD),
        })
        .await;
        let (outcome, outcomes) = mpsc::unbounded_channel();
        let (readiness, receiver) = watch::channel(Readiness::NotYet);
        let (commands, queued) = mpsc::unbounded_channel();
        let sent = outcome.clone();
        let request: RequestSender = Arc::new(move |message, reply| {
            if matches!(message, ClientMessage::Command { .. }) {
                sent.send(Ok(message)).unwrap();
            }
            reply.send(Ok(crate::platform::wire::ServerMessage::Ack));
        });
        let coordinator = Coordinator::local(server.base(), RunningSession::Join).unwrap();
        let queue = CommandQueue::new(coordinator, receiver, request);
        Self {
            server,
            readiness,
            commands,
            outcomes,
            outcome,
            task: tokio::spawn(queue.run(queued)),
        }
    }

    /// Becomes ready, with a schema in which `set_prompt` takes a text,
    /// `set_image` a file, and `echo` anything.
    async fn ready() -> Self {
        let queue = Self::start().await;
        let command = |properties: Value| {
            let schema = json!({"type": "object", "properties": properties});
            json!({"post": {"requestBody": {"content": {"application/json": {"schema": schema}}}}})
        };
        let document = json!({"openapi": "3.1.0", "paths": {
            "/events/set_prompt": command(json!({"prompt": {"type": "string"}})),
            "/events/set_image": command(json!({"image": {"format": "reactor-upload-reference"}})),
            "/events/echo": {"post": {}},
        }});
        let schema = Arc::new(Schema::parse(&document).unwrap());
        queue.set_ready(Some(schema));
        queue
    }

    fn set_ready(&self, schema: Option<Arc<Schema>>) {
        let ready = Readiness::Ready("s".into(), schema);
        self.readiness.send_replace(ready);
    }

    /// Queues the batch of the property `commands`, or of another user.
    fn push(&self, commands: Vec<ModelCommand>, deadline: Option<Instant>) {
        let requests = commands.into_iter().map(|command| {
            let outcome = self.outcome.clone();
            CommandRequest {
                command: command.into(),
                check: true,
                max_upload_size: 0,
                deadline,
                progress: Arc::new(|_| ()),
                reply: Reply::new(move |result| {
                    if let Err(error) = result {
                        outcome.send(Err(error)).unwrap();
                    }
                }),
            }
        });
        let batch = QueuedCommand::Commands(requests.collect());
        assert!(self.commands.send(batch).is_ok());
    }

    fn push_list(&self, list: &Value) {
        self.push(ModelCommand::parse_list(&list.to_string()).unwrap(), None);
    }

    fn push_literal(&self, name: &str, arguments: Value) {
        let arguments = serde_json::from_value(arguments).unwrap();
        let command = ModelCommand::literal(name, arguments).unwrap();
        self.push(vec![command], None);
    }

    async fn next(&mut self) -> Result<ClientMessage, Error> {
        let next = timeout(LIMIT, self.outcomes.recv()).await;
        next.expect("a command within the limit").unwrap()
    }

    /// The next command that is sent: its name, its arguments, and its files.
    async fn next_sent(&mut self) -> (String, Map<String, Value>, Vec<String>) {
        match self.next().await.unwrap() {
            ClientMessage::Command {
                name,
                data,
                uploads,
            } => {
                let files = uploads.iter();
                let files =
                    files.map(|(parameter, file)| format!("{parameter}={}", file.upload_id));
                (name, data, files.collect())
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A file on the disk.
fn file() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    format!("@file:{}", path.display())
}

#[tokio::test]
async fn refused_file_is_not_uploaded() {
    let mut queue = Queue::ready().await;
    queue.push_list(&json!([{"set_prompt": {"prompt": "@file:/proc/self/exe"}}]));
    let error = queue.next().await.unwrap_err();
    assert!(error.message.contains("takes no file"), "{error}");
    assert!(queue.server.requests().is_empty());
}

#[tokio::test]
async fn upload_delays_commands_of_its_batch_only() {
    let mut queue = Queue::ready().await;
    queue.push_list(&json!([
        {"echo": {"n": 1}}, {"set_image": {"image": file()}}, {"echo": {"n": 2}},
    ]));
    queue.push_literal("echo", json!({"n": 3}));
    queue.push_list(&json!([{"set_image": {"image": file()}}, {"echo": {"n": 4}}]));
    queue.push_literal("echo", json!({"n": 5}));
    let mut names = Vec::new();
    for _ in 0..7 {
        let (name, data, files) = queue.next_sent().await;
        let number = data.get("n").map_or(files.join(","), Value::to_string);
        names.push(format!("{name} {number}"));
    }
    assert_eq!(names[..3], ["echo 1", "echo 3", "echo 5"]);
    let position = |name: &str| names.iter().position(|n| n == name);
    assert_eq!(names[3], "set_image image=id");
    assert!(position("echo 2") > Some(3), "{names:?}");
    assert!(position("echo 4") > Some(3), "{names:?}");
}

#[tokio::test]
async fn reference_to_uploaded_file_is_sent_as_upload() {
    let mut queue = Queue::ready().await;
    let reference = json!({"upload_id": "u", "name": "a", "mime_type": "b/c", "size": 1});
    queue.push_literal("set_image", json!({ "image": reference }));
    let (name, data, files) = queue.next_sent().await;
    assert_eq!((name.as_str(), data.len()), ("set_image", 0));
    assert_eq!(files, ["image=u"]);
    // The schema says that this is text: the refusal is about what was written.
    queue.push_literal("set_prompt", json!({ "prompt": reference }));
    let error = queue.next().await.unwrap_err();
    assert!(
        error.message.contains("must be of the type string"),
        "{error}"
    );
    // Without a schema its form decides; inside a value it stays where it is.
    queue.set_ready(None);
    let nested = json!({"images": [reference]});
    queue.push_literal("other", json!({ "image": reference, "more": nested }));
    let (_, data, files) = queue.next_sent().await;
    assert_eq!(data, json!({ "more": nested }).as_object().unwrap().clone());
    assert_eq!(files, ["image=u"]);
}

#[tokio::test]
async fn command_that_waits_for_session_fails_in_time() {
    let mut queue = Queue::start().await;
    queue.push_list(&json!([{"echo": {"n": 1}}]));
    let command = ModelCommand::literal("echo", Map::new()).unwrap();
    // It is behind one that waits for ever.
    queue.push(vec![command], Some(Instant::now() + UPLOAD));
    let error = queue.next().await.unwrap_err();
    assert_eq!(error.code, Code::Disconnected);
    queue.set_ready(None);
    assert_eq!(queue.next_sent().await.0, "echo");
}

#[tokio::test]
async fn end_of_driver_answers_what_is_left() {
    let mut queue = Queue::ready().await;
    queue.push_list(&json!([{"set_image": {"image": file()}}, {"echo": {}}]));
    while queue.server.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(queue.commands);
    drop(queue.readiness);
    timeout(LIMIT, queue.task).await.unwrap().unwrap();
    for _ in 0..2 {
        let outcome = queue.outcomes.recv().await.unwrap();
        assert_eq!(outcome.unwrap_err().code, Code::Disconnected);
    }
}
