// SPDX-License-Identifier: MIT

//! The cloud over HTTPS, with certificates of the test's own: a valid one, and invalid ones, which
//! let no request pass.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use gst::glib::{self, translate::IntoGlib};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use reactor_coordinator::{ApiRoute, Coordinator, CoordinatorSettings};
use reactor_tests::{
    TIMEOUT,
    cloud::{KEY, start_coordinator},
    media, mount_namespace,
    pipeline::wait_until,
    process::Process,
    scratch,
    server::{Server, repository},
};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};

/// A certificate authority; its own certificate is in a file for SSL_CERT_FILE.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = scratch::path(&format!("{name}.pem"));
        std::fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file }
    }

    /// Issues a certificate for a server name, valid until the end of a year.
    fn issue(&self, name: &str, last_year: i32) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// Terminates TLS in front of a coordinator.
struct TlsFrontend {
    port: u16,
    /// TCP connections, and those whose TLS handshake succeeded.
    begun: Arc<AtomicUsize>,
    agreed: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl TlsFrontend {
    fn start(coordinator: &Coordinator, identity: Identity) -> Self {
        let behind = coordinator
            .url()
            .strip_prefix("http://")
            .unwrap()
            .to_owned();
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate], identity.key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(TcpListener::bind(("127.0.0.1", 0)))
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let [begun, agreed] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let counters = (begun.clone(), agreed.clone());
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counters.0.fetch_add(1, Ordering::SeqCst);
                let (acceptor, agreed) = (acceptor.clone(), counters.1.clone());
                let behind = behind.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    agreed.fetch_add(1, Ordering::SeqCst);
                    let mut behind = TcpStream::connect(behind).await.unwrap();
                    // Either side may close the connection.
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
                });
            }
        });
        Self {
            port,
            begun,
            agreed,
            runtime: Some(runtime),
        }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }
}

impl Drop for TlsFrontend {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A child process that trusts this authority: trusted certificates are loaded once per process.
fn command_trusting(authority: &Authority, program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env("SSL_CERT_FILE", &authority.file)
        .env_remove("SSL_CERT_DIR")
        .env("REACTOR_API_KEY", KEY)
        .env_remove("REACTOR_JWT");
    command
}

#[test]
fn session_over_https_is_recorded() {
    let server = Server::playground();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let authority = Authority::new("https-good");
    let frontend = TlsFrontend::start(&coordinator, authority.issue("localhost", 2099));
    let file = scratch::path("https.mkv");
    let mut command = command_trusting(&authority, Path::new("gst-launch-1.0"));
    command.arg("-e").args(["reactorsrc", "model=playground"]);
    command.arg(format!("api-url={}", frontend.url()));
    command.args(["!", "video/x-vp9", "!", "matroskamux", "!", "filesink"]);
    command.arg(format!("location={}", file.display()));
    let mut launch = Process::start("https", command);
    launch.wait_for_output("Connected to the model", TIMEOUT);
    wait_until("pictures in the file", TIMEOUT, || {
        std::thread::sleep(Duration::from_millis(500));
        media::pictures_so_far(&file) > 60
    });
    assert_eq!(coordinator.open_sessions().len(), 1);
    launch.signal(libc::SIGINT);
    launch.assert_succeeds(TIMEOUT);
    assert!(coordinator.open_sessions().is_empty());
    assert_eq!(coordinator.count(ApiRoute::Tokens), 1);
    assert!(frontend.agreed.load(Ordering::SeqCst) >= 1);
    let counters = media::counters(&file);
    media::assert_nearly_contiguous(&counters);
    assert!(counters.len() > 60, "{} pictures", counters.len());
    std::fs::remove_file(&file).unwrap();
}

/// The error that the user gets for a server with this certificate. Panics if a request reaches the
/// server.
fn assert_refused(trusted: &Authority, identity: Identity) -> Value {
    assert_refused_by(command_trusting(trusted, &error_program()), identity)
}

fn error_program() -> PathBuf {
    repository().join("tests/programs/error.py")
}

fn assert_refused_by(mut command: Command, identity: Identity) -> Value {
    let coordinator = Coordinator::start(CoordinatorSettings::default()).unwrap();
    let frontend = TlsFrontend::start(&coordinator, identity);
    let line = format!("reactorsrc model=m api-url={} ! fakesink", frontend.url());
    command.arg(line);
    let mut child = Process::start("https-refusal", command);
    child.assert_succeeds(2 * TIMEOUT);
    let output = child.output();
    assert!(!output.contains(KEY), "{output}");
    assert!(frontend.begun.load(Ordering::SeqCst) >= 1, "{output}");
    assert_eq!(frontend.agreed.load(Ordering::SeqCst), 0, "{output}");
    assert!(coordinator.log().is_empty(), "{:?}", coordinator.log());
    let error: Value = serde_json::from_str(output.trim()).expect(&output);
    assert_eq!(error["domain"], domain());
    let number = gst::ResourceError::OpenRead.into_glib();
    assert_eq!(error["number"], number, "{output}");
    assert_eq!(error["code"], "NETWORK_ERROR", "{output}");
    error
}

fn domain() -> &'static str {
    use glib::error::ErrorDomain;
    gst::ResourceError::domain().as_str()
}

#[track_caller]
fn assert_says(error: &Value, words: &[&str]) {
    let text = error["text"].as_str().unwrap();
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn unknown_authority_is_refused_before_any_request() {
    let [known, unknown] = ["https-known", "https-unknown"].map(Authority::new);
    let error = assert_refused(&known, unknown.issue("localhost", 2099));
    assert_says(&error, &["https://localhost", "SSL_CERT_FILE"]);
}

/// As update-ca-certificates writes it: one file with all.
#[test]
fn authority_of_the_system_store_is_trusted() {
    let authority = Authority::new("https-corporate");
    let script = format!(
        "mount -t tmpfs tmpfs /etc/ssl/certs\ncp {} /etc/ssl/certs/ca-certificates.crt",
        authority.file.display()
    );
    let Some(mut command) = mount_namespace::command(&script, "gst-launch-1.0") else {
        return;
    };
    let server = Server::playground();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let frontend = TlsFrontend::start(&coordinator, authority.issue("localhost", 2099));
    for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR", "REACTOR_JWT"] {
        command.env_remove(variable);
    }
    command.env("REACTOR_API_KEY", KEY);
    command.args(["reactorsrc", "model=playground"]);
    command.arg(format!("api-url={}", frontend.url()));
    command.args("! identity eos-after=20 ! fakesink".split(' '));
    Process::start("https-store", command).assert_succeeds(TIMEOUT);
    assert!(frontend.agreed.load(Ordering::SeqCst) >= 1);
    assert!(coordinator.open_sessions().is_empty());
}

/// The error says which file, and what is wrong with it.
#[test]
fn bad_certificate_file_is_refused_before_any_request() {
    let authority = Authority::new("https-file");
    let der = scratch::TempFile::new("https-file.der");
    std::fs::write(&der.0, authority.issuer.der()).unwrap();
    let nowhere = scratch::path("https-no-such-file.pem");
    for (file, words) in [
        (&der.0, ["no certificate in PEM", "x509"]),
        (&nowhere, ["cannot be read", "No such file"]),
    ] {
        let mut command = command_trusting(&authority, &error_program());
        command.env("SSL_CERT_FILE", file);
        let error = assert_refused_by(command, authority.issue("localhost", 2099));
        assert_says(&error, &["SSL_CERT_FILE", &file.display().to_string()]);
        assert_says(&error, &words);
    }
}

#[test]
fn wrong_host_name_is_refused_before_any_request() {
    let authority = Authority::new("https-name");
    let error = assert_refused(&authority, authority.issue("elsewhere.example", 2099));
    assert_says(&error, &["localhost", "api-url"]);
}

#[test]
fn expired_certificate_is_refused_before_any_request() {
    let authority = Authority::new("https-expired");
    let error = assert_refused(&authority, authority.issue("localhost", 2021));
    assert_says(&error, &["expired", "clock"]);
}
