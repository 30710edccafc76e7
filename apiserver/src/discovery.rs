//! Discovery and OpenAPI: documents that follow from the table of kinds.

use http::{HeaderMap, Response, header};
use serde_json::{Value, json};

use crate::body::{self, Body};
use crate::media::{self, Form, Output};
use crate::path::{self, Path};
use crate::server::ApiServer;
use crate::status::Status;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Answers a path that is not about objects.
pub(crate) fn answer(server: &ApiServer, path: &Path<'_>, headers: &HeaderMap) -> Result<Response<Body>, Status> {
    let registry = &server.registry;
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
    paths.extend(["/healthz", "/livez", "/openapi/v3", "/readyz", "/version"].map(str::to_owned));
    json!({ "paths": paths })
}
