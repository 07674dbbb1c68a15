//! TLS, and addresses that others can reach.

use super::{Asker, EVENTS, project, token, up};
use crate::bad_input::{csv, ingest};
use crate::process::{Server, refuses, succeeds};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::{Certificate, Client};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_rustls::TlsConnector;
use twofold_common::TlsFiles;
use twofold_serving::{Tls, Trust};

/// An authority.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Vouches for this machine, in `<name>.pem` and `<name>.key`.
    pub(super) fn vouch(&self, dir: &Path, name: &str) {
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_string(), "127.0.0.1".to_string()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(dir.join("ca.pem"), self.0.pem()).unwrap();
    }

    fn client(&self) -> Client {
        let root = Certificate::from_pem(self.0.pem().as_bytes()).unwrap();
        Client::builder().no_proxy().add_root_certificate(root).pool_max_idle_per_host(0).build().unwrap()
    }
}

pub(super) const TLS: &str = "tls_cert = \"tls.pem\"\ntls_key = \"tls.key\"";

#[test]
fn elsewhere_than_on_loopback_nothing_is_listened_on_without_tls_and_a_token() {
    let dir = project("", "", "");
    let authority = Authority::new();
    authority.vouch(dir.path(), "tls");
    for (command, section) in [("up", "serve"), ("serve", "serve"), ("speed", "speed")] {
        let listen = |more: &str| {
            let toml = format!("[batch]\nschedule = \"off\"\n[{section}]\nlisten = \"0.0.0.0:0\"\n{more}\n");
            let other = if section == "serve" { "speed" } else { "serve" };
            let toml = format!("{toml}[{other}]\nlisten = \"127.0.0.1:0\"\n");
            std::fs::write(dir.path().join("twofold.toml"), toml).unwrap();
        };
        listen("");
        let said = refuses(dir.path(), &[command]);
        assert!(said.contains("without TLS") && said.contains("--insecure-listen"), "{command}: {said}");
        assert!(!dir.path().join("data").exists(), "nothing is written");
        listen(TLS);
        let said = refuses(dir.path(), &[command]);
        assert!(said.contains("without a token") && said.contains("token create"), "{command}: {said}");
        listen("");
        let run = if command == "speed" { "speed" } else { "serve" };
        Server::start(dir.path(), &[command, "--insecure-listen"], run).stop();
        std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_with_a_token_it_answers_and_nobody_gets_around_either() {
    let dir = project(TLS, "", "");
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.vouch(dir.path(), "tls");
    let admin = token(dir.path(), &["ops", "--admin"]);
    let server = Server::start(dir.path(), &["up", "--listen", "0.0.0.0:0"], "serve");
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    let asker = Asker { http: authority.client(), ..Asker::new(&server.url, Some(&admin)) };
    assert_eq!(asker.get("/v1/status").await.0, 200);
    assert_eq!(asker.post("/v1/streams/s", EVENTS).await.0, 200);
    let anybody = Asker { token: None, ..asker.clone() };
    assert_eq!(anybody.get("/v1/status").await.0, 401);
    let plain = reqwest::get(format!("{}/healthz", server.url.replace("https", "http"))).await;
    assert!(plain.is_err(), "without TLS there is nothing");
    for client in [stranger.client(), Client::builder().no_proxy().build().unwrap()] {
        assert!(client.get(format!("{}/healthz", server.url)).send().await.is_err(), "another authority");
    }
    // Commands here know the certificate from the run file, and those elsewhere by its authority.
    assert_eq!(csv(dir.path(), "SELECT count(*) AS n FROM s"), "n\n2\n");
    ingest(dir.path(), EVENTS.as_bytes());
    let nowhere = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    let remote = ["--server", &server.url, "--token", &admin, "status"];
    assert!(refuses(nowhere.path(), &remote).contains("--ca"));
    let known: Vec<&str> = remote.into_iter().chain(["--ca", ca.to_str().unwrap()]).collect();
    assert!(succeeds(nowhere.path(), &known).contains("stream"));
    stranger.vouch(nowhere.path(), "other");
    let ca = nowhere.path().join("ca.pem");
    let unknown: Vec<&str> = remote.into_iter().chain(["--ca", ca.to_str().unwrap()]).collect();
    assert!(refuses(nowhere.path(), &unknown).contains("does not answer"));
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_read_again_when_it_changes_and_a_bad_one_is_not_taken_over() {
    let dir = project(TLS, "", "");
    let (first, second) = (Authority::new(), Authority::new());
    first.vouch(dir.path(), "tls");
    let server = up(dir.path());
    let url = format!("{}/healthz", server.url);
    assert!(first.client().get(&url).send().await.is_ok());
    std::fs::write(dir.path().join("tls.key"), "not a key").unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(first.client().get(&url).send().await.is_ok(), "half a change is none");
    second.vouch(dir.path(), "tls");
    let started = Instant::now();
    while second.client().get(&url).send().await.is_err() {
        assert!(started.elapsed() < super::SECONDS, "the new certificate is not shown");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(first.client().get(&url).send().await.is_err());
    succeeds(dir.path(), &["status"]);
    server.stop();
    std::fs::write(dir.path().join("tls.pem"), "nothing").unwrap();
    assert!(refuses(dir.path(), &["up"]).contains("tls.pem: expected certificates as PEM"));
    first.vouch(dir.path(), "other");
    std::fs::copy(dir.path().join("other.pem"), dir.path().join("tls.pem")).unwrap();
    assert!(refuses(dir.path(), &["up"]).contains("not the key of the certificate"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_connects_and_does_not_speak_tls_holds_nobody_up() {
    let dir = project(TLS, "", "");
    let authority = Authority::new();
    authority.vouch(dir.path(), "tls");
    let server = up(dir.path());
    let address = server.url.strip_prefix("https://").unwrap();
    let silent: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    let answer = authority.client().get(format!("{}/healthz", server.url)).send();
    assert!(tokio::time::timeout(Duration::from_secs(5), answer).await.unwrap().is_ok());
    drop(silent);
    server.stop();
}

#[test]
fn the_speed_layer_speaks_tls_to_serving_here_and_elsewhere() {
    let dir = project("", TLS, "");
    let authority = Authority::new();
    authority.vouch(dir.path(), "tls");
    let admin = token(dir.path(), &["ops", "--admin"]);
    let speed = Server::start(dir.path(), &["speed"], "speed");
    assert!(speed.url.starts_with("https://"), "{}", speed.url);
    ingest(dir.path(), EVENTS.as_bytes());
    let serve = Server::start(dir.path(), &["serve"], "serve");
    assert_eq!(csv(dir.path(), "SELECT count(*) AS n FROM s"), "n\n2\n");
    serve.stop();
    // A serving process elsewhere has the same store, and neither run file nor secret.
    let elsewhere = tempfile::tempdir().unwrap();
    let store = dir.path().join("data/store");
    let localhost = speed.url.replace("127.0.0.1", "localhost");
    authority.vouch(elsewhere.path(), "unused");
    let toml = format!(
        "store = {store:?}\n[serve]\nlisten = \"127.0.0.1:0\"\n[speed]\nlisten = \"127.0.0.1:0\"\nurl = {localhost:?}\n\
         ca = \"ca.pem\"\n"
    );
    std::fs::write(elsewhere.path().join("twofold.toml"), toml).unwrap();
    std::fs::write(elsewhere.path().join("views.sql"), super::SQL).unwrap();
    let serve = |token: &str| {
        let env = [("TWOFOLD_TOKEN", token)];
        let env = if token.is_empty() { [].as_slice() } else { &env };
        Server::try_start(elsewhere.path(), &["serve"], "serve", env).unwrap()
    };
    let without = serve("");
    assert!(
        refuses(elsewhere.path(), &["query", "SELECT * FROM v"]).contains("does not let this process in")
    );
    without.stop();
    let with = serve(&admin);
    assert_eq!(csv(elsewhere.path(), "SELECT count(*) AS n FROM s"), "n\n2\n");
    with.stop();
    speed.stop();
}

/// What a client of ours that trusts so makes of a server with the certificate `tls.pem`, as which it asks for `name`.
async fn trusts(dir: &Path, trust: Trust, name: &'static str) -> bool {
    let files = TlsFiles { cert: dir.join("tls.pem"), key: dir.join("tls.key") };
    let acceptor = Tls::load(&files).unwrap().acceptor(&[]).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server =
        tokio::spawn(async move { acceptor.accept(listener.accept().await.unwrap().0).await.is_ok() });
    let connector = TlsConnector::from(Arc::new(trust.config().unwrap()));
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let client = connector.connect(name.try_into().unwrap(), socket).await.is_ok();
    client && server.await.unwrap()
}

#[tokio::test]
async fn a_client_trusts_the_very_certificate_or_the_authority_and_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    stranger.vouch(dir.path(), "strange");
    std::fs::copy(dir.path().join("ca.pem"), dir.path().join("stranger.pem")).unwrap();
    authority.vouch(dir.path(), "other");
    authority.vouch(dir.path(), "tls");
    let exactly = |file: &str| Trust::Exactly(dir.path().join(file));
    let authorities = |file: &str| Trust::Authorities(dir.path().join(file));
    assert!(trusts(dir.path(), exactly("tls.pem"), "any.example").await);
    assert!(!trusts(dir.path(), exactly("other.pem"), "localhost").await, "of the same authority and name");
    assert!(!trusts(dir.path(), exactly("ca.pem"), "localhost").await);
    assert!(trusts(dir.path(), authorities("ca.pem"), "localhost").await);
    assert!(!trusts(dir.path(), authorities("ca.pem"), "any.example").await);
    assert!(!trusts(dir.path(), authorities("stranger.pem"), "localhost").await);
}
