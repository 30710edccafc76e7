use serde_json::{Value, json};

/// A query parameter: name, type, what it is for.
type Parameter = (&'static str, &'static str, &'static str);

/// Those that the verbs share.
const SHARED: [Parameter; 19] = [
    (
        "allowWatchBookmarks",
        "boolean",
        "A watch also sends events of type BOOKMARK, which carry only a resourceVersion.",
    ),
    ("continue", "string", "The token of the previous chunk of a list, to go on behind it."),
    ("dryRun", "string", "All: the request is checked and answered, and nothing is stored."),
    ("fieldManager", "string", "The name that the changed fields are owned by, at most 128 printable characters."),
    ("fieldSelector", "string", "Only the objects whose fields have these values."),
    (
        "fieldValidation",
        "string",
        "What to do about unknown and repeated fields: Ignore, Warn (the default) or Strict.",
    ),
    ("force", "boolean", "An apply takes fields over from other managers."),
    ("gracePeriodSeconds", "integer", "The seconds until the object is deleted; 0 is at once."),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "An object that cannot be read is deleted without its finalizers.",
    ),
    ("labelSelector", "string", "Only the objects whose labels match."),
    ("limit", "integer", "The most objects of one chunk of a list; the rest is had with continue."),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    ("pretty", "string", "true: the answer is indented."),
    ("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
    ("resourceVersion", "string", "How new what is read has to be, or where a watch begins."),
    ("resourceVersionMatch", "string", "How resourceVersion applies to a list: NotOlderThan or Exact."),
    ("sendInitialEvents", "boolean", "A watch begins with the objects there are, and a bookmark behind them."),
    ("timeoutSeconds", "integer", "The seconds after which a list or watch ends."),
    ("watch", "boolean", "Changes are sent as they happen, instead of a list."),
];

const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "pretty"];
const PATCH: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force", "pretty"];
const DELETE: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "pretty",
    "propagationPolicy",
];
const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "pretty",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const DELETE_COLLECTION: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "labelSelector",
    "limit",
    "orphanDependents",
    "pretty",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];

const CONTAINER: Parameter = ("container", "string", "The container, where the pod has several.");
const STREAMS: [Parameter; 4] = [
    ("stderr", "boolean", "The error output is sent."),
    ("stdin", "boolean", "Input is taken."),
    ("stdout", "boolean", "The output is sent."),
    ("tty", "boolean", "Input and output are a terminal."),
];
const LOG: [Parameter; 9] = [
    ("follow", "boolean", "Lines are sent as they are written."),
    ("insecureSkipTLSVerifyBackend", "boolean", "The certificate of the node is not checked."),
    ("limitBytes", "integer", "The most bytes of the log that are sent."),
    ("pretty", "string", "true: the answer is indented."),
    ("previous", "boolean", "The log of the container before its last restart."),
    ("sinceSeconds", "integer", "Only lines of the last so many seconds."),
    ("stream", "string", "All (the default), Stdout or Stderr."),
    ("tailLines", "integer", "Only so many lines from the end."),
    ("timestamps", "boolean", "Each line begins with its time, as RFC 3339 has it."),
];

/// The parameters that verbs share, by name: those that OpenAPI v2 refers to.
pub(super) fn shared() -> impl Iterator<Item = (&'static str, Value)> {
    SHARED.iter().map(|parameter| (parameter.0, query(parameter)))
}

/// Whether it is one of those.
pub(super) fn is_shared(parameter: &Value) -> bool {
    SHARED.iter().any(|shared| parameter["name"] == shared.0 && parameter["description"] == shared.2)
}

/// The parameters of an action on a resource or a subresource.
pub(super) fn of(action: &str, subresource: &str) -> Vec<Value> {
    let shared = match (action, subresource) {
        ("connect", "exec") => {
            let command = ("command", "array", "The program and its arguments.");
            return [command, CONTAINER].iter().chain(&STREAMS).map(query).collect();
        }
        ("connect", "attach") => return [CONTAINER].iter().chain(&STREAMS).map(query).collect(),
        ("connect", "portforward") => return vec![query(&("ports", "integer", "The ports to forward."))],
        ("connect", "proxy") => return vec![query(&("path", "string", "What is asked for, behind the slash."))],
        (_, "log") => return [CONTAINER].iter().chain(&LOG).map(query).collect(),
        ("connect", _) => &[],
        ("list", _) => LIST,
        ("post" | "put", _) => WRITE,
        ("patch", _) => PATCH,
        ("delete", _) => DELETE,
        ("deletecollection", _) => DELETE_COLLECTION,
        _ => &["pretty"],
    };
    let known = |name: &&str| SHARED.iter().find(|parameter| parameter.0 == *name).map(query);
    shared.iter().filter_map(known).collect()
}

fn query((name, ty, description): &Parameter) -> Value {
    let schema = match *ty {
        "array" => json!({"type": "array", "items": {"type": "string"}}),
        ty => json!({"type": ty, "uniqueItems": true}),
    };
    json!({"name": name, "in": "query", "description": description, "schema": schema})
}

/// A part of a path.
pub(super) fn placed(name: &str, description: &str) -> Value {
    let schema = json!({"type": "string", "uniqueItems": true});
    json!({"name": name, "in": "path", "required": true, "description": description, "schema": schema})
}
