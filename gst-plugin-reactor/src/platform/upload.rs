// SPDX-License-Identifier: MIT

//! Uploads for a model: a file is read from disk, announced to the API, and put
//! to the URL that the API names. Called from tokio tasks (files are read on a
//! blocking thread); the storage receives no credential.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::{Body, Method, header::HeaderValue};
use serde_json::{Value, json};
use url::Url;

use self::counted_body::CountedBody;
use super::{
    Code, Error,
    endpoint::Endpoint,
    http::{HttpRequest, HttpResponse, sanitize},
    local_file,
    url_policy::{self, Trust},
    wire::FileRef,
};

mod counted_body;
#[cfg(test)]
mod tests;

/// The size in bytes up to which an upload is accepted by default. A limit of
/// this client's: the whole file is held in memory, here and by a local runtime.
pub const DEFAULT_MAX_SIZE: u64 = 64 << 20;

/// The longest that sending the bytes may take, whatever their number...
pub const UPLOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// ...plus a second for each of this number of bytes.
pub const UPLOAD_BYTES_PER_SECOND: u64 = 64 << 10;

/// The size in bytes from which an upload reports its progress.
const PROGRESS_MIN_SIZE: u64 = 1 << 20;

/// The interval at which it does.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// The MIME type of a file whose own is unknown.
const DEFAULT_MIME_TYPE: &str = "application/octet-stream";

/// The name of bytes without one.
const DEFAULT_NAME: &str = "upload";

const OPERATION: &str = "upload";

/// The property that limits the size.
const SIZE_LIMIT: &str = "max-upload-size";

/// The bytes of an upload with name and MIME type.
///
/// They are in memory as a whole, and not streamed: their exact number has to
/// be announced first, a file that changes meanwhile is noticed before any of
/// it has been sent, and their number is limited anyway.
#[derive(Clone, PartialEq, Eq)]
pub struct UploadSource {
    name: String,
    mime_type: String,
    bytes: Bytes,
}

impl std::fmt::Debug for UploadSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UploadSource")
            .field("name", &self.name)
            .field("mime_type", &self.mime_type)
            .field("size", &self.bytes.len())
            .finish()
    }
}

/// How far the upload of a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadState {
    pub name: String,
    /// In bytes; some of them may still be on their way.
    pub sent: u64,
    /// In bytes.
    pub size: u64,
}

/// Receives the state of an upload of [`PROGRESS_MIN_SIZE`] and more, a few times
/// per second and at its end. Called by the task that sends: it must return at
/// once.
pub type UploadProgress = Arc<dyn Fn(UploadState) + Send + Sync>;

/// For an upload whose progress does not matter.
#[cfg(test)]
pub fn no_progress() -> UploadProgress {
    Arc::new(|_| ())
}

impl UploadSource {
    /// Takes bytes, the name under which the model is to see them (`upload` if
    /// empty) and their MIME type, which without one follows from the name's
    /// extension, or is `application/octet-stream`. `max_size` is the largest
    /// number of bytes, 0 for no limit.
    ///
    /// Fails with [`Code::BadRequest`] if there are no bytes, or too many, or if
    /// the type is none.
    pub fn new(
        bytes: impl Into<Bytes>,
        name: &str,
        mime: Option<&str>,
        max_size: u64,
    ) -> Result<Self, Error> {
        let bytes = bytes.into();
        let name = if name.is_empty() { DEFAULT_NAME } else { name };
        let shown = format!("\"{}\"", sanitize(name));
        check_size(bytes.len() as u64, max_size, &shown)?;
        let mime_type = mime.or_else(|| guess_mime_type(name));
        let mime_type = mime_type.unwrap_or(DEFAULT_MIME_TYPE);
        if !mime_type.contains('/') || HeaderValue::from_str(mime_type).is_err() {
            return Err(invalid_file(format!(
                "\"{}\" is not the MIME type of a file; expected one such as image/png",
                sanitize(mime_type)
            )));
        }
        Ok(Self {
            name: name.to_owned(),
            mime_type: mime_type.to_owned(),
            bytes,
        })
    }

    #[cfg(test)]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[cfg(test)]
    pub fn mime_type(&self) -> &str {
        &self.mime_type
    }

    /// In bytes; at least 1.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// The MIME type that the extension of a file's name stands for.
fn guess_mime_type(name: &str) -> Option<&'static str> {
    mime_guess::from_path(name).first_raw()
}

/// Reads a file to be uploaded, on a thread where that may take its time. Without
/// a `name` it gets that of the file. Its type without one follows from `name`
/// first, and then from the file's own name; the limit is as in
/// [`UploadSource::new`].
///
/// Fails with [`Code::BadRequest`] if the file is missing, cannot be read, is
/// not a regular file, is empty or too large, or changes while it is read. The
/// message names the path and says what to do.
pub async fn read_file(
    path: &Path,
    name: Option<&str>,
    mime: Option<&str>,
    max_size: u64,
) -> Result<UploadSource, Error> {
    let path = path.to_owned();
    let own_name = path.file_name().unwrap_or_default().to_string_lossy();
    let (name, own_name) = (name.unwrap_or(&own_name).to_owned(), own_name.into_owned());
    let mime = mime.or_else(|| guess_mime_type(&name));
    let mime = mime
        .or_else(|| guess_mime_type(&own_name))
        .map(str::to_owned);
    let read = move || {
        let bytes = read_bytes(&path, max_size, || ())?;
        UploadSource::new(bytes, &name, mime.as_deref(), max_size)
    };
    let task = tokio::task::spawn_blocking(read);
    task.await.unwrap_or_else(|e| {
        let message = format!("the thread that reads a file failed: {e}");
        Err(Error::api(Code::Internal, message).during(OPERATION))
    })
}

/// Reads all of a file. `between` runs before the final check.
fn read_bytes(path: &Path, max_size: u64, between: impl FnOnce()) -> Result<Vec<u8>, Error> {
    local_file::read(path, max_size, SIZE_LIMIT, between).map_err(invalid_file)
}

fn check_size(size: u64, max_size: u64, shown: &str) -> Result<(), Error> {
    match size {
        0 => Err(invalid_file(format!(
            "{shown} is empty; the platform takes no empty files"
        ))),
        _ if max_size == 0 || size <= max_size => Ok(()),
        _ => Err(invalid_file(format!(
            "{shown} has {size} bytes, more than the {max_size} of {SIZE_LIMIT}"
        ))),
    }
}

fn invalid_file(message: String) -> Error {
    Error::api(Code::BadRequest, message).during(OPERATION)
}

/// The uploads of a session.
#[derive(Debug, Clone)]
pub struct UploadClient {
    endpoint: Endpoint,
    session_id: String,
    /// See [`UPLOAD_TIMEOUT`].
    timeout: Duration,
}

impl UploadClient {
    /// Takes the API and the id of a session, which must be running by the
    /// time of an upload. Makes no request.
    pub fn new(endpoint: Endpoint, session_id: &str) -> Self {
        Self {
            endpoint,
            session_id: session_id.to_owned(),
            timeout: UPLOAD_TIMEOUT,
        }
    }

    /// Uploads a file, in two requests: it is announced, and then its bytes go
    /// where the answer says.
    ///
    /// That place is not the API, so the second request carries nothing that
    /// is for the API; and it may be sent elsewhere by no redirect. It may
    /// take [`UPLOAD_TIMEOUT`] and a second for every
    /// [`UPLOAD_BYTES_PER_SECOND`] bytes.
    ///
    /// Fails as [`Endpoint::send`] does. A local runtime says [`Code::NotFound`]
    /// for a session it does not have and [`Code::BadRequest`] when none runs.
    pub async fn upload(
        &self,
        source: &UploadSource,
        progress: UploadProgress,
    ) -> Result<FileRef, Error> {
        let body = json!({
            "name": source.name,
            "size": source.size(),
            "mime_type": source.mime_type,
        });
        let path = ["sessions", &self.session_id, "uploads"];
        let call = HttpRequest::new(Method::POST, &path, OPERATION, Some(body));
        let reply = self.endpoint.send(call).await?;
        let (upload_id, url) = parse_slot(&reply, &self.endpoint)?;
        let limit = upload_timeout(source.size(), self.timeout);
        let mime_type = source.mime_type.clone();
        let body = request_body(source, progress);
        let http = self.endpoint.http();
        http.put(url, &mime_type, body, limit, OPERATION).await?;
        Ok(FileRef {
            upload_id,
            name: source.name.clone(),
            mime_type,
            size: source.size(),
        })
    }
}

/// The bytes as a request's body, which reports its progress if it is large.
fn request_body(source: &UploadSource, progress: UploadProgress) -> Body {
    let size = source.size();
    if size < PROGRESS_MIN_SIZE {
        // Unlike the other it can be sent again on another connection.
        return source.bytes.clone().into();
    }
    let name = source.name.clone();
    let mut reported = Instant::now();
    Body::wrap(CountedBody::new(source.bytes.clone(), move |sent| {
        if sent == size || reported.elapsed() >= PROGRESS_INTERVAL {
            reported = Instant::now();
            let name = name.clone();
            progress(UploadState { name, sent, size });
        }
    }))
}

/// The longest that sending `size` bytes may take.
fn upload_timeout(size: u64, least: Duration) -> Duration {
    least + Duration::from_secs(size / UPLOAD_BYTES_PER_SECOND)
}

/// The id of an upload, and the URL for its bytes.
fn parse_slot(reply: &HttpResponse, endpoint: &Endpoint) -> Result<(String, Url), Error> {
    let answer = reply.json()?;
    let text = |name: &str| {
        answer
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| reply.protocol_error(&format!("the answer has no \"{name}\"")))
    };
    let upload_id = text("presigned_id")?.to_owned();
    let url = resolve_target(text("presigned_url")?, endpoint.base(), endpoint.trust());
    let url = url.map_err(|e| reply.protocol_error(&e))?;
    Ok((upload_id, url))
}

/// The URL for the bytes: see [`url_policy::resolve`]. A relative address starts at the
/// API's.
fn resolve_target(text: &str, base: &Url, trust: Trust) -> Result<Url, String> {
    let mut below = base.clone();
    if !below.path().ends_with('/') {
        below.set_path(&format!("{}/", below.path()));
    }
    url_policy::resolve(text, &below, base, trust)
        .map_err(|e| format!("the address for the upload {e}"))
}
