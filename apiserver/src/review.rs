//! Kinds that are questions: created, answered, never stored.

use http::Response;
use serde_json::{Value, json};

use crate::answer;
use crate::authorise::{Attributes, authorise};
use crate::body::Body;
use crate::call::Call;
use crate::identity::Identity;
use crate::object::{list, text};
use crate::status::Status;

/// The answer, if the call is one of these questions.
pub(crate) fn answer(call: &Call) -> Option<Result<Response<Body>, Status>> {
    let status: fn(&Call, &Value) -> Value = match &*call.stored {
        "authentication.k8s.io/selfsubjectreviews" => |call, _| json!({"userInfo": user(&call.identity)}),
        "authentication.k8s.io/tokenreviews" => {
            |_, _| json!({"authenticated": false, "user": {}, "error": "this API server issues no tokens"})
        }
        "authorization.k8s.io/selfsubjectaccessreviews" => |call, review| allowed(&call.identity, review),
        "authorization.k8s.io/subjectaccessreviews" | "authorization.k8s.io/localsubjectaccessreviews" => {
            |_, review| {
                let groups = list(review, "/spec/groups").iter().filter_map(Value::as_str).map(str::to_owned);
                allowed(&Identity::new(text(review, "/spec/user"), groups), review)
            }
        }
        "authorization.k8s.io/selfsubjectrulesreviews" => |_, _| {
            json!({
                "incomplete": false,
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            })
        },
        "/componentstatuses" => return Some(component_status(call)),
        _ => return None,
    };
    let reviewed = call.read_object().and_then(|(mut review, warnings)| {
        review["status"] = status(call, &review);
        answer::value(call, 201, &review, &warnings)
    });
    Some(reviewed)
}

fn user(identity: &Identity) -> Value {
    json!({"username": identity.user, "groups": identity.groups})
}

fn allowed(identity: &Identity, review: &Value) -> Value {
    let attribute = |name: &str| text(review, &format!("/spec/resourceAttributes/{name}"));
    let attributes = Attributes {
        verb: attribute("verb"),
        group: attribute("group"),
        resource: attribute("resource"),
        subresource: attribute("subresource"),
        namespace: attribute("namespace"),
        name: attribute("name"),
    };
    match authorise(identity, &attributes) {
        Ok(()) => json!({"allowed": true}),
        Err(status) => json!({"allowed": false, "reason": status.message}),
    }
}

/// The one component that there is to speak of: this server, which answers.
fn component_status(call: &Call) -> Result<Response<Body>, Status> {
    let component = json!({
        "apiVersion": "v1",
        "kind": "ComponentStatus",
        "metadata": {"name": "apiserver"},
        "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}],
    });
    match call.name.as_str() {
        "" => answer::list(call, &Default::default(), &[component.to_string().into()]),
        "apiserver" => answer::object(call, 200, &component.to_string().into(), &[]),
        _ => Err(call.not_found()),
    }
}
