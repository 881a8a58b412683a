use kube::core::Status;
use kube::core::response::StatusDetails;

use super::*;

fn answer(code: u16, reason: &str, about: &str) -> Failure {
    let details: StatusDetails =
        serde_json::from_value(serde_json::json!({ "name": about })).unwrap();
    let status = Status {
        code,
        reason: reason.to_owned(),
        message: "no".to_owned(),
        details: Some(details),
        ..Status::default()
    };
    Failure::of(kube::Error::Api(Box::new(status)), "v1")
}

#[test]
fn an_answer_says_whether_anything_was_written() {
    for (code, reason, expected) in [
        (404, "NotFound", "Missing"),
        (409, "Conflict", "Conflict"),
        (409, "AlreadyExists", "Exists"),
        (400, "BadRequest", "Refused"),
        (401, "Unauthorized", "Refused"),
        (403, "Forbidden", "Refused"),
        (413, "RequestEntityTooLarge", "Refused"),
        (422, "Invalid", "Invalid"),
        (429, "TooManyRequests", "Refused"),
        (500, "InternalError", "Unknown"),
        (503, "ServiceUnavailable", "Unknown"),
        (504, "Timeout", "Unknown"),
    ] {
        let failure = format!("{:?}", answer(code, reason, "v1"));
        assert!(failure.starts_with(expected), "{code} {reason}: {failure}");
    }
}

#[test]
fn that_the_kind_is_missing_does_not_say_that_the_object_is() {
    for about in ["", "other"] {
        let failure = answer(404, "NotFound", about);
        assert!(matches!(failure, Failure::Refused(_)), "{failure:?}");
    }
}

#[test]
fn what_went_before_a_change_never_leaves_it_unknown() {
    let name = "v1".parse().unwrap();

    let before = Failure::too_slow().of_preparation(&name, "reading");
    let change = Failure::too_slow().of_change(&name, "writing");

    assert!(matches!(before, Error::NotWritten { .. }), "{before:?}");
    assert!(matches!(change, Error::OutcomeUnknown { .. }), "{change:?}");
}
