//! The paths that anyone may ask: health and version.

use bytes::Bytes;
use http::{HeaderMap, Response};
use serde_json::json;

use crate::body::{Body, response};
use crate::query::Query;

/// The version of the API that is spoken.
const VERSION: (&str, &str) = ("1", "36");
const GIT_VERSION: &str = "v1.36.0+coracle";

/// The answer to a path that is open to anyone; None for all others.
pub(crate) fn open(path: &str, query: &Query, headers: &HeaderMap) -> Option<Response<Body>> {
    let text = |text: String| response(200, "text/plain; charset=utf-8", Bytes::from(text), headers);
    Some(match path {
        "/version" => {
            let (major, minor) = VERSION;
            let version = json!({
                "major": major,
                "minor": minor,
                "gitVersion": GIT_VERSION,
                "gitCommit": "",
                "gitTreeState": "clean",
                "buildDate": "1970-01-01T00:00:00Z",
                "goVersion": "",
                "compiler": "rustc",
                "platform": format!("{}/{}", std::env::consts::OS, platform()),
            });
            response(200, "application/json", version.to_string().into(), headers)
        }
        "/healthz" | "/livez" | "/readyz" if query.bool("verbose").is_some() => {
            // The server answers only once its store is open, so that is what can be said.
            let name = path.trim_start_matches('/');
            text(format!("[+]ping ok\n[+]store ok\n{name} check passed\n"))
        }
        "/healthz" | "/livez" | "/readyz" => text("ok".to_owned()),
        "/healthz/ping" | "/livez/ping" | "/readyz/ping" => text("ok".to_owned()),
        _ => return None,
    })
}

/// Go's name of the machine.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
