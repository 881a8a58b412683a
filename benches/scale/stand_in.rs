//! A stand-in for the API server, of which nothing is measured: collections of objects in memory that are listed in pages,
//! watched, made, patched at a version and deleted. It answers at once, so that what takes time is the client.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

/// The objects of one kind, by name, as the texts that are sent.
#[derive(Default)]
struct Collection {
    objects: BTreeMap<String, String>,
}

struct Objects {
    collections: HashMap<String, Collection>,
    version: u64,
}

/// A change of a collection.
#[derive(Clone)]
struct News {
    collection: Arc<str>,
    line: Arc<str>,
}

/// What the requests share.
#[derive(Clone)]
pub struct StandIn {
    objects: Arc<Mutex<Objects>>,
    news: broadcast::Sender<News>,
}

type Answer = Result<String, (StatusCode, &'static str)>;

const MISSING: (StatusCode, &str) = (StatusCode::NOT_FOUND, "NotFound");
const CONFLICT: (StatusCode, &str) = (StatusCode::CONFLICT, "Conflict");

impl StandIn {
    pub fn new() -> Self {
        let objects = Objects { collections: HashMap::new(), version: 1 };
        Self { objects: Arc::new(Mutex::new(objects)), news: broadcast::Sender::new(1 << 16) }
    }

    /// Has a collection, with nothing in it so far.
    pub fn open(&self, collection: &str) {
        let mut objects = self.objects.lock().unwrap();
        objects.collections.entry(collection.to_owned()).or_default();
    }

    /// Puts an object there before anything is served.
    pub fn put(&self, collection: &str, mut object: Value) {
        let mut objects = self.objects.lock().unwrap();
        objects.version += 1;
        object["metadata"]["resourceVersion"] = objects.version.to_string().into();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let collection = objects.collections.entry(collection.to_owned()).or_default();
        collection.objects.insert(name, object.to_string());
    }

    /// Serves on a port of the loopback interface, and says which.
    pub async fn serve(&self) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        port
    }

    fn list(&self, collection: &str, query: &HashMap<String, String>) -> String {
        let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
        let after = query.get("continue").cloned().unwrap_or_default();
        let objects = self.objects.lock().unwrap();
        let none = Collection::default();
        let all = &objects.collections.get(collection).unwrap_or(&none).objects;
        let from = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let mut rest = all.range::<String, _>(from);
        let page: Vec<_> = rest.by_ref().take(limit).collect();
        let next = rest.next().and(page.last()).map(|(name, _)| name.as_str()).unwrap_or_default();
        let items: Vec<_> = page.iter().map(|(_, text)| text.as_str()).collect();
        format!(
            r#"{{"kind":"List","apiVersion":"v1","metadata":{{"resourceVersion":"{}","continue":"{next}"}},"items":[{}]}}"#,
            objects.version,
            items.join(",")
        )
    }

    /// Changes the objects of a collection and tells who watches it.
    fn change(
        &self,
        collection: &str,
        name: &str,
        change: impl FnOnce(Option<Value>) -> Result<(&'static str, Value), (StatusCode, &'static str)>,
    ) -> Answer {
        let mut objects = self.objects.lock().unwrap();
        let version = objects.version + 1;
        let all = &mut objects.collections.entry(collection.to_owned()).or_default().objects;
        let now = all.get(name).map(|text| serde_json::from_str(text).unwrap());
        let (kind, mut object) = change(now)?;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let text = object.to_string();
        if kind == "DELETED" {
            all.remove(name);
        } else {
            all.insert(name.to_owned(), text.clone());
        }
        objects.version = version;
        let line = format!(r#"{{"type":"{kind}","object":{text}}}{}"#, '\n');
        // Nobody may watch.
        let _ = self.news.send(News { collection: collection.into(), line: line.into() });
        Ok(text)
    }

    fn watch(&self, collection: &str) -> Response {
        let collection = collection.to_owned();
        let lines = BroadcastStream::new(self.news.subscribe()).filter_map(move |news| {
            let news = news.unwrap();
            (*news.collection == *collection).then(|| Ok::<_, Infallible>(news.line.to_string()))
        });
        Body::from_stream(lines).into_response()
    }

    fn delete(&self, collection: &str, name: &str) -> Answer {
        self.change(collection, name, |now| Ok(("DELETED", now.ok_or(MISSING)?)))
    }

    fn create(&self, collection: &str, mut object: Value) -> Answer {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        object["metadata"]["uid"] = format!("uid-of-{name}").into();
        self.change(collection, &name, |now| match now {
            Some(_) => Err((StatusCode::CONFLICT, "AlreadyExists")),
            None => Ok(("ADDED", object)),
        })
    }

    fn patch(&self, collection: &str, name: &str, patch: &[u8], json: bool) -> Answer {
        self.change(collection, name, |now| {
            let mut object = now.ok_or(MISSING)?;
            let version = object["metadata"]["resourceVersion"].clone();
            if json {
                let patch: json_patch::Patch = serde_json::from_slice(patch).unwrap();
                json_patch::patch(&mut object, &patch).unwrap();
            } else {
                json_patch::merge(&mut object, &serde_json::from_slice(patch).unwrap());
            }
            let same = object["metadata"]["resourceVersion"] == version;
            if same { Ok(("MODIFIED", object)) } else { Err(CONFLICT) }
        })
    }
}

async fn answer(State(api): State<StandIn>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let query: HashMap<String, String> = head.uri.query().map(pairs).unwrap_or_default();
    let path = head.uri.path().trim_end_matches("/status");
    let is_collection = api.objects.lock().unwrap().collections.contains_key(path);
    let (collection, name) = path.rsplit_once('/').unwrap();
    let json_patch = head.headers.get(header::CONTENT_TYPE);
    let json_patch = json_patch.is_some_and(|kind| kind == "application/json-patch+json");
    let done = match head.method {
        Method::GET if is_collection && query.contains_key("watch") => return api.watch(path),
        Method::GET if is_collection => Ok(api.list(path, &query)),
        Method::GET => {
            let objects = api.objects.lock().unwrap();
            let all = objects.collections.get(collection);
            all.and_then(|all| all.objects.get(name)).cloned().ok_or(MISSING)
        }
        Method::POST => api.create(path, serde_json::from_slice(&body).unwrap()),
        Method::PATCH => api.patch(collection, name, &body, json_patch),
        Method::DELETE => api.delete(collection, name),
        _ => Err((StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed")),
    };
    let (status, text) = match done {
        Ok(text) => (StatusCode::OK, text),
        Err((status, reason)) => (status, refusal(status, reason, name)),
    };
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn refusal(status: StatusCode, reason: &str, name: &str) -> String {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason,
        "code": status.as_u16(), "details": {"name": name},
    })
    .to_string()
}

fn pairs(query: &str) -> HashMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
