//! Clients of stores, and what their errors mean.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::limit::LimitStore;
use object_store::path::Path as Key;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use crate::error::Error;

/// The largest number of requests of one process to one store at a time.
const REQUESTS: usize = 32;

/// The number of times that the client sends a request again after an answer that says so.
const RETRIES: usize = 8;

/// The number of times that a request is made anew where the client does not: its answer was cut
/// off, or sending it twice would not always be safe.
const TRIES: usize = 5;

/// A store and the requests that may run at a time.
pub(super) type Store = Arc<dyn ObjectStore>;

/// The clients of this process, by scheme and bucket. They keep connections and credentials.
static CLIENTS: Mutex<Option<HashMap<(u32, String), Store>>> = Mutex::new(None);

/// What a store answers.
pub(super) type Answer<T> = Result<T, object_store::Error>;

/// Makes a request, and makes it anew after an error that may pass. The request must do the same if
/// it is made twice.
pub(super) async fn again<T, F: Future<Output = Answer<T>>>(request: impl Fn() -> F) -> Answer<T> {
    let mut pause = backoff().init_backoff;
    for _ in 1..TRIES {
        match request().await {
            Err(error) if may_pass(&error) => {}
            answer => return answer,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    request().await
}

/// Waits between tries. The first are short: most errors of stores pass at once.
fn backoff() -> BackoffConfig {
    BackoffConfig {
        init_backoff: Duration::from_millis(200),
        max_backoff: Duration::from_secs(10),
        base: 2.0,
    }
}

/// Finds the client for an address, and the key of the object in its store.
pub(super) fn client(path: &Path) -> Result<(Store, Key), Error> {
    let text = path.to_str().ok_or_else(|| wrong(path, "is not UTF-8"))?;
    let url = Url::parse(&text.replace('%', "%25").replace('#', "%23").replace('?', "%3F"))
        .map_err(|error| wrong(path, &error.to_string()))?;
    let place = format!("{}://{}", url.scheme(), url.authority());
    let rest = text.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, key)| key);
    let key = Key::parse(rest).map_err(|error| wrong(path, &error.to_string()))?;
    let mut known = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let clients = known.get_or_insert_with(HashMap::new);
    let entry = (std::process::id(), place.clone());
    if let Some(store) = clients.get(&entry) {
        return Ok((Arc::clone(store), key));
    }
    install_tls();
    let store = build(&url, &place).map_err(|error| wrong(path, &error.to_string()))?;
    clients.insert(entry, Arc::clone(&store));
    Ok((store, key))
}

fn wrong(path: &Path, problem: &str) -> Error {
    Error::Usage(format!("{} is no address that can be used: {problem}", path.display()))
}

/// Names the provider of TLS, unless the program that uses this library has named one.
fn install_tls() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// Makes a client with the credentials of the environment.
fn build(url: &Url, place: &str) -> object_store::Result<Store> {
    let retry =
        RetryConfig { backoff: backoff(), max_retries: RETRIES, retry_timeout: Duration::from_secs(180) };
    let plain_http = |names: &[&str]| {
        names.iter().any(|name| std::env::var(name).is_ok_and(|value| value.starts_with("http://")))
    };
    let options = ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(10))
        // Of a response that stands still. Slow ones may take as long as they need.
        .with_read_timeout(Duration::from_secs(60))
        .with_timeout_disabled();
    Ok(match url.scheme() {
        "s3" | "s3a" => {
            let mut builder = AmazonS3Builder::from_env().with_url(place).with_retry(retry);
            let http = plain_http(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]);
            if let Ok(endpoint) = std::env::var("AWS_ENDPOINT_URL_S3") {
                builder = builder.with_endpoint(endpoint);
            }
            let options = options.with_allow_http(http);
            Arc::new(LimitStore::new(builder.with_client_options(options).build()?, REQUESTS))
        }
        "gs" => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(place).with_retry(retry);
            Arc::new(LimitStore::new(builder.with_client_options(options).build()?, REQUESTS))
        }
        "http" | "https" => {
            let builder = HttpBuilder::new().with_url(place).with_retry(retry);
            let options = options.with_allow_http(true);
            Arc::new(LimitStore::new(builder.with_client_options(options).build()?, REQUESTS))
        }
        _ => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(place).with_retry(retry);
            let options =
                options.with_allow_http(plain_http(&["AZURITE_BLOB_STORAGE_URL", "AZURE_ENDPOINT"]));
            Arc::new(LimitStore::new(builder.with_client_options(options).build()?, REQUESTS))
        }
    })
}

/// Tells whether an error may pass if the request is made anew.
fn may_pass(error: &object_store::Error) -> bool {
    let text = all_of(error);
    let gave_up = text.contains(&format!("after {RETRIES} retries")) || text.contains("status code: 4");
    matches!(error, object_store::Error::Generic { .. }) && !gave_up && !has_expired(&text)
}

fn has_expired(text: &str) -> bool {
    ["ExpiredToken", "TokenExpired", "expired"].iter().any(|word| text.contains(word))
}

/// Joins an error and its causes in one line.
fn all_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Says what went wrong with an object, and what to do about it.
pub(super) fn explain(action: &'static str, path: &Path, error: &object_store::Error) -> Error {
    use object_store::Error as E;
    let text = all_of(error);
    // The cause comes last.
    let skipped = text.chars().count().saturating_sub(300);
    let mut said: String = text.chars().skip(skipped).collect();
    if skipped > 0 {
        said.insert(0, '…');
    }
    let (kind, said) = match error {
        E::NotFound { .. } => (io::ErrorKind::NotFound, "there is no such object; check the address".to_owned()),
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => (
            io::ErrorKind::PermissionDenied,
            format!("the store refused access; check the credentials in the environment ({said})"),
        ),
        _ if ["403 Forbidden", "401 Unauthorized", "AccessDenied"].iter().any(|word| text.contains(word)) => (
            io::ErrorKind::PermissionDenied,
            format!("the store refused access; check the credentials in the environment ({said})"),
        ),
        _ if has_expired(&text) => (
            io::ErrorKind::PermissionDenied,
            "the credentials have expired; renew them in the environment and run it again: what is done stays done"
                .to_owned(),
        ),
        // An answer without a body cannot say why.
        _ if text.contains("400 Bad Request") => (
            io::ErrorKind::PermissionDenied,
            format!(
                "the store refused the request; credentials that have expired are the usual cause: renew them in the \
                 environment and run it again ({said})"
            ),
        ),
        _ if ["507", "InsufficientStorage", "EntityTooLarge", "NoSpace", "QuotaExceeded"]
            .iter()
            .any(|word| text.contains(word)) =>
        {
            let advice = "the store is full; make room and run it again: what is done stays done";
            (io::ErrorKind::StorageFull, format!("{advice} ({said})"))
        }
        _ => {
            let advice = "gave up after several tries; run it again when the store answers: what is done stays done";
            (io::ErrorKind::Other, format!("{advice} ({said})"))
        }
    };
    Error::Io { action, path: PathBuf::from(path), source: io::Error::new(kind, said) }
}
