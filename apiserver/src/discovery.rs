//! Discovery: documents that follow from the table of kinds.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use http::{HeaderMap, Response, header};
use serde_json::{Value, json};

use crate::body::{self, Body};
use crate::path::Path;
use crate::query::Query;
use crate::server::ApiServer;
use crate::status::Status;
use crate::{media, openapi};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AGGREGATED_BETA: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// Answers a path that is not about objects.
pub(crate) fn answer(
    server: &ApiServer,
    path: &Path<'_>,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response<Body>, Status> {
    let registry = &server.registry;
    if let Path::Other(path) = path
        && let Some(document) = path.strip_prefix("/openapi/")
    {
        return openapi::answer(registry, document, query, headers);
    }
    let aggregated = match path {
        Path::Core | Path::Groups => aggregated(headers),
        _ => None,
    };
    if let Some((version, content_type)) = aggregated {
        let mut list = if *path == Path::Core { registry.aggregated_api() } else { registry.aggregated_apis() };
        list["apiVersion"] = format!("apidiscovery.k8s.io/{version}").into();
        return Ok(tagged(content_type, list.to_string(), headers));
    }
    let offer = media::Offer { documents: true, protobuf: !matches!(path, Path::Other(_)), ..media::Offer::default() };
    let output = media::output(headers, query, offer)?;
    let document = match path {
        Path::Core => Some(registry.api_versions(host(headers))),
        Path::Groups => Some(registry.group_list()),
        Path::Group(group) => registry.group(group),
        Path::Version { group, version } => registry.resource_list(group, version),
        Path::Other("") => Some(roots(server)),
        Path::Other(_) | Path::Objects(_) => None,
    };
    let document = document.ok_or_else(Status::no_such_path)?;
    let bytes = media::encode(registry, output, document.to_string().into())?;
    Ok(body::response(200, output.format.content_type(false), bytes, headers))
}

/// The version of aggregated discovery that the client prefers, and its content type; None where it takes plain
/// discovery.
fn aggregated(headers: &HeaderMap) -> Option<(&'static str, &'static str)> {
    for range in media::accepted(headers) {
        let has = |piece: &str| range.split(';').any(|one| one.trim() == piece);
        if !has("application/json") {
            continue;
        }
        let list = has("g=apidiscovery.k8s.io") && has("as=APIGroupDiscoveryList");
        match list {
            true if has("v=v2") => return Some(("v2", AGGREGATED)),
            true if has("v=v2beta1") => return Some(("v2beta1", AGGREGATED_BETA)),
            true => {}
            false => return None,
        }
    }
    None
}

/// An answer that a client keeps and asks about again; 304 when it has not changed.
fn tagged(content_type: &'static str, text: String, headers: &HeaderMap) -> Response<Body> {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    openapi::tagged(&format!("{:016X}", hasher.finish()), content_type, headers, || text.into())
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
