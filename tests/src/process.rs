//! Real processes: the binary as a user runs it, on loopback, on free ports, stopped again by their id.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a server may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, built by the cargo that runs the tests; or the one that `TWOFOLD_BINARY` names.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(built) = std::env::var_os("TWOFOLD_BINARY") {
            return PathBuf::from(built);
        }
        let test = std::env::current_exe().unwrap();
        let dir = test.parent().and_then(Path::parent).unwrap();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        // All of the workspace, as the tests are built, so that no dependency is built with other features.
        build
            .args(["build", "--quiet", "--workspace", "--bins"])
            .env("CARGO_TARGET_DIR", dir.parent().unwrap());
        if dir.ends_with("release") {
            build.arg("--release");
        }
        assert!(
            build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success(),
            "the binary builds"
        );
        dir.join("twofold")
    })
}

/// Runs a command to its end.
pub fn twofold(project: &Path, args: &[&str]) -> Output {
    command(project, args).output().unwrap()
}

fn command(project: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("-p").arg(project).args(args).stdin(Stdio::null()).env_remove("TWOFOLD_LOG");
    command
}

/// Runs a command that must succeed, and gives what it printed.
pub fn succeeds(project: &Path, args: &[&str]) -> String {
    let output = twofold(project, args);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "twofold {args:?}: {}\n{out}\n{err}", output.status);
    out
}

/// Runs a command that must fail as bad input does: exit code 2, one line on stderr, nothing on stdout. A server that
/// starts after all is killed.
pub fn refuses(project: &Path, args: &[&str]) -> String {
    let mut child = command(project, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "twofold {args:?}\n{out}\n{err}");
    assert_eq!(err.trim_end().lines().count(), 1, "one line: {err}");
    assert_eq!(out, "", "nothing is printed");
    assert!(err.starts_with("error: "), "{err}");
    err
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running server of a project.
pub struct Server {
    child: Child,
    pub url: String,
}

impl Server {
    /// Starts `twofold <command>`, and waits until it listens. `run` names its run file: `speed` or `serve`.
    pub fn start(project: &Path, command: &[&str], run: &str) -> Server {
        Self::try_start(project, command, run, &[])
            .unwrap_or_else(|ended| panic!("twofold {command:?} ended: {ended}"))
    }

    /// The same with these variables set; how it ended, if it did before it listened.
    pub fn try_start(
        project: &Path,
        command: &[&str],
        run: &str,
        env: &[(&str, &str)],
    ) -> Result<Server, ExitStatus> {
        let log = project.join(format!("{}.log", command[0]));
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut server = Command::new(binary());
        server.arg("-p").arg(project).args(command).envs(env.iter().copied());
        Self::spawn(server.stderr(log), project, run)
    }

    /// The same under a limit of the shell's, such as `ulimit -n 64`.
    pub fn start_within(limit: &str, project: &Path, command: &[&str], run: &str) -> Server {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{limit}; exec \"$0\" \"$@\"")]).arg(binary());
        shell.arg("-p").arg(project).args(command).stderr(Stdio::null());
        Self::spawn(&mut shell, project, run)
            .unwrap_or_else(|ended| panic!("twofold {command:?} ended: {ended}"))
    }

    fn spawn(server: &mut Command, project: &Path, run: &str) -> Result<Server, ExitStatus> {
        let mut child = server.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let path = project.join("data/run").join(format!("{run}.json"));
        let started = Instant::now();
        loop {
            let file =
                std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            if let Some(file) = file.filter(|f| f["pid"] == child.id()) {
                return Ok(Server { child, url: file["url"].as_str().unwrap().to_string() });
            }
            if let Some(ended) = child.try_wait().unwrap() {
                return Err(ended);
            }
            assert!(started.elapsed() < PATIENCE, "{server:?} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to stop, as a service manager does, and waits: it must end well.
    pub fn stop(mut self) {
        signal(&self.child, "TERM");
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "after SIGTERM: {status}");
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not stop after SIGTERM");
    }

    /// Asks it to stop, and gives how long it took, however it ended.
    pub fn stop_within(mut self, patience: Duration) -> Duration {
        signal(&self.child, "TERM");
        let started = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < patience, "it does not stop after SIGTERM");
            std::thread::sleep(Duration::from_millis(20));
        }
        started.elapsed()
    }

    /// How it ended by itself, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Ends it at once, as a power cut does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// A client for the HTTP API.
#[derive(Clone)]
pub struct Client {
    url: String,
    http: reqwest::Client,
}

impl Client {
    pub fn new(url: &str) -> Self {
        Self { url: url.to_string(), http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    pub async fn post(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.url)).header("content-type", content_type);
        Self::answer(request.body(body).send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        Self::answer(self.http.get(format!("{}{path}", self.url)).send().await.unwrap()).await
    }

    pub async fn sql(&self, sql: &str) -> (u16, Value) {
        self.post("/v1/sql", "application/json", serde_json::json!({ "sql": sql }).to_string()).await
    }

    /// The rows as Arrow, so that floats are compared to the bit, with their coverage.
    pub async fn rows(&self, sql: &str) -> twofold_serving::Rows {
        let request = self.http.post(format!("{}/v1/sql?format=arrow", self.url));
        let response = request.body(serde_json::json!({ "sql": sql }).to_string()).send().await.unwrap();
        let status = response.status();
        let body = response.bytes().await.unwrap();
        assert!(status.is_success(), "{sql}: {}", text(&body));
        twofold_serving::Rows::from_arrow(&body, &self.url).unwrap()
    }

    /// The same as [`rows`](Self::rows), as soon as it does not say that it is too early.
    pub async fn patient_rows(&self, sql: &str) -> twofold_serving::Rows {
        let started = Instant::now();
        loop {
            let (status, answer) = self.sql(sql).await;
            if ![409, 503].contains(&status) {
                assert_eq!(status, 200, "{sql}: {answer}");
                return self.rows(sql).await;
            }
            assert!(started.elapsed() < PATIENCE, "{sql}: {answer}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn answer(response: reqwest::Response) -> (u16, Value) {
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap();
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        (status, serde_json::from_slice(&body).unwrap_or_else(|_| text()))
    }
}
