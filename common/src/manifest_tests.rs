use super::*;
use crate::store::tests::stores;
use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use std::sync::Arc;

type Texts = Manifests<String>;

fn texts(store: &Store) -> Texts {
    Manifests::new(store.clone(), "t/manifest", "text")
}

/// Publishes versions up to `to`, whose bodies are their versions.
async fn publish_to(texts: &Texts, to: u64) {
    let from = texts.latest().await.unwrap().map_or(0, |v| v.version);
    for after in from..to {
        texts.publish((after > 0).then_some(after), (after + 1).to_string()).await.unwrap();
    }
}

async fn newest(texts: &Texts) -> Option<u64> {
    let latest = texts.latest().await.unwrap()?;
    assert_eq!(latest.body, latest.version.to_string());
    Some(latest.version)
}

fn after_all_puts() -> DateTime<Utc> {
    DateTime::<Utc>::MAX_UTC
}

#[tokio::test]
async fn the_latest_is_what_was_published_last() {
    for (store, _dir) in stores() {
        let texts = texts(&store);
        assert_eq!(newest(&texts).await, None);
        for n in 1..=5 {
            publish_to(&texts, n).await;
            assert_eq!(newest(&texts).await, Some(n));
        }
    }
}

#[tokio::test]
async fn of_two_writers_exactly_one_wins() {
    for (store, _dir) in stores() {
        let texts = texts(&store);
        for after in [None, Some(1), Some(2)] {
            let (a, b) =
                tokio::join!(texts.publish(after, "a".to_string()), texts.publish(after, "b".to_string()));
            let (won, lost) = if a.is_ok() { (a, b) } else { (b, a) };
            assert_eq!(texts.latest().await.unwrap().unwrap(), won.unwrap());
            let lost = lost.unwrap_err();
            assert_eq!(lost.kind(), Kind::Conflict);
            assert!(lost.to_string().contains("t/manifest/0000"), "{lost}");
        }
    }
}

#[tokio::test]
async fn a_wrong_hint_costs_requests_never_truth() {
    for (store, _dir) in stores() {
        let texts = texts(&store);
        publish_to(&texts, 7).await;
        for hint in ["1", "2", "6", "0", "9", "18446744073709551615", "", "seven", "-1"] {
            store.put("t/manifest/_latest", Bytes::from(hint)).await.unwrap();
            assert_eq!(newest(&texts).await, Some(7), "hint {hint:?}");
        }
        store.delete("t/manifest/_latest").await.unwrap();
        assert_eq!(newest(&texts).await, Some(7));
    }
}

#[tokio::test]
async fn pruning_keeps_the_newest_and_what_the_hint_names() {
    for (store, _dir) in stores() {
        let texts = texts(&store);
        publish_to(&texts, 9).await;
        assert_eq!(texts.prune(3, DateTime::<Utc>::MIN_UTC).await.unwrap(), 0, "all are too young");
        assert_eq!(texts.prune(3, after_all_puts()).await.unwrap(), 6);
        assert_eq!(newest(&texts).await, Some(9));
        assert_eq!(texts.prune(0, after_all_puts()).await.unwrap(), 1, "two stay at least");

        publish_to(&texts, 12).await;
        store.put("t/manifest/_latest", Bytes::from("9")).await.unwrap();
        assert_eq!(texts.prune(2, after_all_puts()).await.unwrap(), 1, "only what is below the hint");
        assert_eq!(newest(&texts).await, Some(12));
    }
}

#[tokio::test]
async fn a_late_writer_loses_after_its_version_was_pruned() {
    for (store, _dir) in stores() {
        let texts = texts(&store);
        publish_to(&texts, 9).await;
        texts.prune(2, after_all_puts()).await.unwrap();
        for after in [None, Some(1), Some(4), Some(7)] {
            let lost = texts.publish(after, "late".to_string()).await.unwrap_err();
            assert_eq!(lost.kind(), Kind::Conflict, "after {after:?}");
            assert_eq!(newest(&texts).await, Some(9));
        }
    }
}

#[tokio::test]
async fn what_a_late_writer_left_is_never_taken_for_the_newest() {
    for (store, _dir) in stores() {
        let texts = texts(&store);
        publish_to(&texts, 9).await;
        texts.prune(2, after_all_puts()).await.unwrap();
        for stray in [1, 4] {
            // As if the writer's put had passed between its two checks, and an old hint had been written late.
            store.put(&texts.path(stray), encode("text", &"late").unwrap()).await.unwrap();
            store.put("t/manifest/_latest", Bytes::from(stray.to_string())).await.unwrap();
            assert_eq!(newest(&texts).await, Some(9));
        }
    }
}

#[tokio::test]
async fn damage_is_told_and_names_the_object() {
    for (store, _dir) in stores() {
        let texts = texts(&store);
        texts.publish(None, "the body".to_string()).await.unwrap();
        let path = texts.path(1);
        let good = String::from_utf8(store.get(&path).await.unwrap().to_vec()).unwrap();
        let cases = [
            (good.replace("the body", "the b0dy"), "expected digest"),
            (good[..good.len() - 3].to_string(), "not a text"),
            (String::new(), "not a text"),
            (good.replace("\"text\"", "\"other\""), "expected a text, found a other"),
            (good.replace("\"format\":1", "\"format\":0"), "format 0"),
            (r#"{"format":2,"something":"else"}"#.to_string(), "newer version of Twofold (format 2"),
        ];
        for (bytes, expected) in cases {
            assert_ne!(bytes, good);
            store.put(&path, Bytes::from(bytes)).await.unwrap();
            let e = texts.latest().await.unwrap_err();
            assert_eq!(e.kind(), Kind::Corrupt);
            assert!(e.to_string().contains(&path) && e.to_string().contains(expected), "{e}");
        }
    }
}

#[test]
fn no_damaged_byte_is_read_as_the_body() {
    let good = encode("text", &"body").unwrap().to_vec();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            if let Ok(body) = decode::<String>("p", "text", &bad) {
                assert_eq!(body, "body", "byte {at}, bit {bit}");
            }
        }
    }
}

/// A file as version 0.1 wrote it.
#[test]
fn reads_and_writes_format_1() {
    let stored = concat!(
        r#"{"format":1,"kind":"text","digest":""#,
        "c5919eb25e32df3ac400757942250b6a9776c7b1ac1e8e465ec6ca0de8e4cb3f",
        r#"","body":"hello"}"#
    );
    assert_eq!(decode::<String>("p", "text", stored.as_bytes()).unwrap(), "hello");
    assert_eq!(encode("text", &"hello").unwrap(), stored);
}

#[tokio::test]
async fn a_put_whose_answer_is_lost_counts_as_published() {
    let store = Store::over(Arc::new(LosesAnswers(InMemory::new())), "lossy");
    let texts = texts(&store);
    assert_eq!(texts.publish(None, "1".to_string()).await.unwrap().version, 1);
    assert_eq!(texts.publish(Some(1), "2".to_string()).await.unwrap().version, 2);
    assert_eq!(texts.publish(Some(1), "other".to_string()).await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(newest(&texts).await, Some(2));
}

/// Does each put, and answers that it failed.
#[derive(Debug)]
struct LosesAnswers(InMemory);

impl std::fmt::Display for LosesAnswers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LosesAnswers")
    }
}

#[async_trait]
impl ObjectStore for LosesAnswers {
    async fn put_opts(
        &self,
        path: &Path,
        bytes: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.0.put_opts(path, bytes, options).await?;
        Err(object_store::Error::Generic { store: "lossy", source: "the connection broke".into() })
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.0.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
