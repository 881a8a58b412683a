//! Requests to the API server as anybody can write them, and what becomes of them.

use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

pub(crate) const CORE: &str = "/api/v1";
pub(crate) const BERTH: &str = "/apis/berth.dev/v1alpha1/localvolumes";

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Value,
}

pub(crate) fn call(method: Method, path: impl Into<String>, body: Value) -> Call {
    Call { method, path: path.into(), body }
}

pub(crate) fn get(path: impl Into<String>) -> Call {
    call(Method::GET, path, Value::Null)
}

pub(crate) fn patch(path: impl Into<String>, body: Value) -> Call {
    call(Method::PATCH, path, body)
}

pub(crate) fn post(path: impl Into<String>, body: Value) -> Call {
    call(Method::POST, path, body)
}

pub(crate) fn delete(path: impl Into<String>) -> Call {
    call(Method::DELETE, path, Value::Null)
}

/// Everything that can be asked about the objects at `path`: of one, of all, and of one that is to be made.
pub(crate) fn everything(path: &str) -> Vec<Call> {
    let (one, body) = (format!("{path}/one"), json!({"metadata": {"name": "one"}}));
    vec![
        get(path),
        get(&one),
        post(path, body.clone()),
        call(Method::PUT, &one, body.clone()),
        patch(&one, body),
        delete(one),
        delete(path),
    ]
}

/// [`everything`] but to read.
pub(crate) fn every_write(path: &str) -> Vec<Call> {
    everything(path).into_iter().filter(|call| call.method != Method::GET).collect()
}

impl Call {
    pub(crate) async fn sent_by(&self, who: &Client) -> kube::Result<String> {
        let body = if self.body.is_null() { Vec::new() } else { self.body.to_string().into() };
        let kind = match self.method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let request = Request::builder().method(&self.method).uri(&self.path);
        who.request_text(request.header("content-type", kind).body(body).unwrap()).await
    }

    /// The same, so that nothing comes of it.
    pub(crate) fn tried(&self) -> Self {
        Self { path: format!("{}?dryRun=All", self.path), ..self.clone() }
    }
}

/// Fails unless each call is refused with a message that has `part`. That an object is not there is not a refusal.
pub(crate) async fn assert_all_refused(who: &Client, calls: &[Call], part: &str) {
    let mut passed = Vec::new();
    for call in calls {
        match call.sent_by(who).await {
            Err(kube::Error::Api(status))
                if [403, 422].contains(&status.code) && status.message.contains(part) => {}
            other => passed.push(format!("{} {}: {other:?}", call.method, call.path)),
        }
    }
    assert!(passed.is_empty(), "not refused with {part:?}:\n{}", passed.join("\n"));
}

/// Fails unless the API server would do each.
pub(crate) async fn assert_all_allowed(who: &Client, calls: &[Call]) {
    for call in calls {
        let answer = call.tried().sent_by(who).await;
        assert!(answer.is_ok(), "{} {}: {answer:?}", call.method, call.path);
    }
}
