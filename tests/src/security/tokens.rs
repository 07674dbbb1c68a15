//! Tokens: none is needed until there is one; then each opens what its scopes say, until it is revoked.

use super::{Asker, EVENTS, project, says, token, up};
use crate::bad_input::{csv, ingest};
use crate::process::{Server, binary, refuses, succeeds, twofold};
use std::path::Path;
use std::process::Command;

fn run_with(project: &Path, token: &str, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.arg("-p").arg(project).args(args).env("TWOFOLD_TOKEN", token);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_what_its_scopes_say_until_it_is_revoked() {
    let dir = project("", "", "");
    let server = up(dir.path());
    let anybody = Asker::new(&server.url, None);
    assert_eq!(anybody.post("/v1/streams/s", EVENTS).await.0, 200, "open on loopback without a token");
    let writer = token(dir.path(), &["till", "--ingest", "s"]);
    let reader = token(dir.path(), &["board", "--read", "v"]);
    let admin = token(dir.path(), &["ops", "--admin", "--expires", "30d"]);
    anybody.until("/v1/status", 401).await;
    let response = anybody.get_request("/v1/status").send().await.unwrap();
    assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"twofold\"");
    let [writer, reader, admin] =
        [&writer, &reader, &admin].map(|token| Asker::new(&server.url, Some(token)));
    admin.until("/v1/status", 200).await;
    let view = "/v1/views/v";
    for (asker, can_write, can_read, can_administer) in [
        (&anybody, 401, 401, 401),
        (&writer, 200, 403, 403),
        (&reader, 403, 200, 403),
        (&admin, 200, 200, 200),
    ] {
        assert_eq!(asker.get("/healthz").await.0, 200);
        assert_eq!(asker.post("/v1/streams/s", EVENTS).await.0, can_write);
        assert_eq!(asker.get(view).await.0, can_read);
        assert_eq!(asker.sql("SELECT * FROM v").await.0, can_read);
        let known = if can_administer == 401 { 401 } else { 200 };
        assert_eq!(asker.get("/v1/catalog").await.0, known, "as in information_schema");
        for path in ["/v1/status", "/v1/batches", "/metrics"] {
            assert_eq!(asker.get(path).await.0, can_administer, "{path}");
        }
    }
    for (status, body) in [
        reader.get("/v1/views/w").await,
        reader.get("/v1/views/%77").await,
        reader.sql("SELECT * FROM w").await,
        reader.sql("SELECT v.k FROM v JOIN w USING (k)").await,
    ] {
        assert!(status == 403 && says(&body).contains("`read w`"), "{status} {body}");
    }
    assert_eq!(reader.sql("SELECT * FROM s").await.0, 403, "a view shows what its stream does not");
    assert_eq!(writer.post("/v1/streams/t", "{\"k\":\"a\"}").await.0, 403);
    let listed = succeeds(dir.path(), &["token", "list"]);
    assert!(listed.contains("till") && listed.contains("ingest s") && listed.contains("read v"), "{listed}");
    assert!(!listed.contains("twofold_"), "{listed}");
    succeeds(dir.path(), &["token", "revoke", "board"]);
    reader.until(view, 401).await;
    assert_eq!(admin.get(view).await.0, 200);
    for name in ["till", "ops"] {
        succeeds(dir.path(), &["token", "revoke", name]);
    }
    admin.until("/v1/status", 401).await;
    assert_eq!(anybody.get("/v1/status").await.0, 401, "without any token it does not open again");
    server.stop();
    let server = up(dir.path());
    assert_eq!(Asker::new(&server.url, None).get("/v1/status").await.0, 401, "nor after a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_token_is_told() {
    let dir = project("", "", "");
    let good = token(dir.path(), &["a", "--admin"]);
    let short = token(dir.path(), &["b", "--admin", "--expires", "1s"]);
    let server = up(dir.path());
    Asker::new(&server.url, Some(&short)).until("/v1/status", 401).await;
    let other = project("", "", "");
    let foreign = token(other.path(), &["a", "--admin"]);
    let mut typo = good.clone();
    typo.replace_range(20..21, if &good[20..21] == "0" { "1" } else { "0" });
    for (token, expected) in [
        ("hunter2", "no token of Twofold"),
        (&good[..40], "cut short"),
        (&typo, "mistyped"),
        (&foreign, "not known here"),
        (&short, "the token b has expired"),
    ] {
        let (status, body) = Asker::new(&server.url, Some(token)).get("/v1/status").await;
        assert!(status == 401 && says(&body).contains(expected), "{status} {body}");
        assert!(!body.to_string().contains(token), "it is not repeated: {body}");
    }
    for wrong in ["twofold", &format!("Basic {good}"), &format!("Bearer {good} x")] {
        let request = reqwest::Client::new().get(format!("{}/v1/status", server.url));
        let status = request.header("authorization", wrong).send().await.unwrap().status().as_u16();
        assert_eq!(status, 401, "{wrong}");
    }
    let in_url = Asker::new(&server.url, None).get(&format!("/v1/status?token={good}")).await.0;
    assert_eq!(in_url, 401, "a token in an address would be in logs and histories");
}

#[test]
fn commands_on_the_same_machine_need_no_token_and_show_the_one_they_are_given() {
    let dir = project("", "", "");
    let reader = token(dir.path(), &["board", "--read", "v"]);
    let server = up(dir.path());
    ingest(dir.path(), EVENTS.as_bytes());
    assert_eq!(csv(dir.path(), "SELECT count(*) AS n FROM s"), "n\n2\n");
    succeeds(dir.path(), &["status"]);
    let (code, said) =
        run_with(dir.path(), &reader, &["query", "SELECT count(*) AS n FROM v", "--format", "csv"]);
    assert_eq!((code, said.as_str()), (Some(0), "n\n2\n"));
    let (code, said) = run_with(dir.path(), &reader, &["query", "SELECT count(*) AS n FROM s"]);
    assert!(code == Some(2) && said.contains("lacks the scope `read s`"), "{said}");
    let (code, said) = run_with(dir.path(), "twofold_abc", &["status"]);
    assert!(code == Some(2) && said.contains("TWOFOLD_TOKEN: the token is cut short"), "{said}");
    // From elsewhere: no project, only an address and a token.
    let nowhere = tempfile::tempdir().unwrap();
    let args = ["--server", &server.url, "query", "SELECT count(*) AS n FROM v", "--format", "csv"];
    assert_eq!(run_with(nowhere.path(), &reader, &args), (Some(0), "n\n2\n".into()));
    let without = refuses(nowhere.path(), &args);
    assert!(without.contains("a token is needed"), "{without}");
    server.stop();
}

#[test]
fn a_token_that_would_be_of_no_use_is_refused() {
    let dir = project("", "", "");
    for (args, part) in [
        (["create", "a b", "--admin"].as_slice(), "cannot be the name"),
        (&["create", "a"], "may do nothing"),
        (&["create", "a", "--read", "vv"], "--read vv: there is no such view"),
        (&["create", "a", "--ingest", "v"], "--ingest v: there is no such stream"),
        (&["revoke", "a"], "there is no token a"),
    ] {
        let all: Vec<&str> = ["token"].iter().chain(args).copied().collect();
        let said = refuses(dir.path(), &all);
        assert!(said.contains(part), "{said}");
    }
    token(dir.path(), &["a", "--read", "*"]);
    let twice = refuses(dir.path(), &["token", "create", "a", "--admin"]);
    assert!(twice.contains("`twofold token revoke a` first"), "{twice}");
}

#[test]
fn what_is_stored_is_no_token_and_not_for_others() {
    use std::os::unix::fs::PermissionsExt;
    let dir = project("", "", "");
    let made = token(dir.path(), &["a", "--admin"]);
    let kept = dir.path().join("data/store/tokens");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o700);
    let text = std::fs::read_to_string(kept.join("manifest/00000000000000000001.json")).unwrap();
    assert!(text.contains("\"name\":\"a\"") && !text.contains(&made[8..24]), "{text}");
    succeeds(dir.path(), &["gc", "--older-than", "0s"]);
    succeeds(dir.path(), &["repair"]);
    assert!(succeeds(dir.path(), &["token", "list"]).contains("admin"), "neither takes it away");
    // A list that was tampered with is not taken for none.
    let tampered = text.replace("\"admin\":true", "\"admin\":false");
    std::fs::write(kept.join("manifest/00000000000000000001.json"), tampered).unwrap();
    assert!(refuses(dir.path(), &["up"]).contains("damaged"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_speed_layer_asks_for_a_token_too_and_serving_shows_one() {
    let dir = project("", "", "");
    let speed = Server::start(dir.path(), &["speed"], "speed");
    let serve = Server::start(dir.path(), &["serve"], "serve");
    let status = "/speed/v1/status";
    let anybody = Asker::new(&speed.url, None);
    assert_eq!(anybody.get(status).await.0, 200);
    let admin = token(dir.path(), &["ops", "--admin"]);
    let reader = token(dir.path(), &["board", "--read", "*", "--ingest", "*"]);
    anybody.until(status, 401).await;
    assert_eq!(anybody.post("/speed/v1/streams/s", EVENTS).await.0, 401);
    Asker::new(&speed.url, Some(&admin)).until(status, 200).await;
    Asker::new(&speed.url, Some(&reader)).until(status, 403).await;
    let asker = Asker::new(&serve.url, Some(&reader));
    asker.until("/v1/views/v", 200).await;
    assert_eq!(asker.post("/v1/streams/s", EVENTS).await.0, 200, "serving knows the speed layer's secret");
    // A speed layer that was started again has another.
    speed.stop();
    let speed = Server::start(dir.path(), &["speed"], "speed");
    asker.until("/v1/views/v", 200).await;
    speed.stop();
    serve.stop();
    assert!(twofold(dir.path(), &["batch"]).status.success());
}
