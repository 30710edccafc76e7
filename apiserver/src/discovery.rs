//! Discovery and OpenAPI: documents that follow from the table of kinds.

use http::{HeaderMap, Response, header};
use serde_json::{Value, json};

use crate::body::{self, Body};
use crate::media::{self, Form, Output};
use crate::path::{self, Path};
use crate::server::ApiServer;
use crate::status::Status;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// OpenAPI v2 in protobuf: `swagger`, and `info` with title and version.
const OPENAPI_V2: &[u8] = b"\x0a\x032.0\x12\x13\x0a\x0aKubernetes\x12\x05v1.36";
const OPENAPI_V2_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Answers a path that is not about objects.
pub(crate) fn answer(server: &ApiServer, path: &Path<'_>, headers: &HeaderMap) -> Result<Response<Body>, Status> {
    let registry = &server.registry;
    if matches!(path, Path::Other("/openapi/v2")) {
        return Ok(openapi_v2(headers));
    }
    // Documents of OpenAPI are only JSON, whatever else a client would take.
    let output = match path {
        Path::Other(_) => Output::default(),
        _ => media::output(headers)?,
    };
    let aggregated = output.form == Form::Discovery;
    let document = match path {
        Path::Core if aggregated => Some(registry.aggregated_api()),
        Path::Core => Some(registry.api_versions(host(headers))),
        Path::Groups if aggregated => Some(registry.aggregated_apis()),
        Path::Groups => Some(registry.group_list()),
        Path::Group(group) => registry.group(group),
        Path::Version { group, version } => registry.resource_list(group, version),
        Path::Other("") => Some(roots(server)),
        Path::Other("/openapi/v3") => Some(registry.openapi_index()),
        Path::Other(path) => path.strip_prefix("/openapi/v3").and_then(|path| match path::parse(path)? {
            Path::Version { group, version } => registry.openapi(group, version),
            _ => None,
        }),
        Path::Objects(_) => None,
    };
    let document = document.ok_or_else(Status::no_such_path)?;
    let content_type =
        if aggregated && matches!(path, Path::Core | Path::Groups) { AGGREGATED } else { "application/json" };
    Ok(body::response(200, content_type, document.to_string().into(), headers))
}

/// kubectl looks here for what it did not find in OpenAPI v3: kinds that do not exist, and `List`.
/// A document without definitions says that nothing is known of them, and it goes on.
fn openapi_v2(headers: &HeaderMap) -> Response<Body> {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("protobuf") {
        return body::response(200, OPENAPI_V2_TYPE, OPENAPI_V2.into(), headers);
    }
    let info = json!({"title": "Kubernetes", "version": "v1.36"});
    let document = json!({"swagger": "2.0", "info": info, "paths": {}, "definitions": {}});
    body::response(200, "application/json", document.to_string().into(), headers)
}

fn host(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

/// `/`: the paths that are served.
fn roots(server: &ApiServer) -> Value {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for (group, versions) in server.registry.groups() {
        if !group.is_empty() {
            paths.push(format!("/apis/{group}"));
            paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
        }
    }
    paths.extend(["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"].map(str::to_owned));
    json!({ "paths": paths })
}
