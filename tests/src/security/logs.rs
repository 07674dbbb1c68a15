//! Nothing secret is written anywhere but where it belongs.

use super::{Asker, EVENTS, project, token};
use crate::process::{Server, succeeds};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_in_the_log_of_a_run_at_its_most_talkative() {
    let dir = project("", "", "");
    let admin = token(dir.path(), &["ops", "--admin"]);
    let env = [("TWOFOLD_LOG", "trace"), ("TWOFOLD_TOKEN", &admin)];
    let start = |command| Server::try_start(dir.path(), &[command], command, &env).unwrap();
    let (speed, serve) = (start("speed"), start("serve"));
    let asker = Asker::new(&serve.url, Some(&admin));
    assert_eq!(asker.post("/v1/streams/s", EVENTS).await.0, 200);
    assert_eq!(asker.sql("SELECT * FROM v").await.0, 200);
    assert_eq!(asker.sql("SELECT nope FROM v").await.0, 400);
    let mut wrong = admin.clone();
    wrong.replace_range(70..71, if &admin[70..71] == "0" { "1" } else { "0" });
    for token in [&wrong, &admin[..60]] {
        assert_eq!(Asker::new(&serve.url, Some(token)).get("/v1/status").await.0, 401);
    }
    succeeds(dir.path(), &["token", "create", "other", "--read", "v"]);
    succeeds(dir.path(), &["token", "revoke", "ops"]);
    asker.until("/v1/status", 401).await;
    let local: Vec<String> = (["serve", "speed"].iter())
        .map(|run| std::fs::read(dir.path().join(format!("data/run/{run}.json"))).unwrap())
        .map(|bytes| serde_json::from_slice::<Value>(&bytes).unwrap()["token"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(local.len(), 2);
    serve.stop();
    speed.stop();
    for command in ["speed", "serve"] {
        let log = std::fs::read_to_string(dir.path().join(format!("{command}.log"))).unwrap();
        assert!(
            command == "speed" || log.contains("a request was refused"),
            "it says what was refused: {log}"
        );
        for secret in local.iter().chain([&admin]) {
            // Any part of it would be too much.
            let part = &secret[8..24];
            assert!(!log.contains(part), "{command}: {:?}", log.lines().find(|line| line.contains(part)));
        }
        assert!(!log.contains("twofold_0") && !log.contains("Bearer twofold"), "{command}");
    }
}
