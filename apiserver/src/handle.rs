//! The way of a request: accept → authenticate → authorise → verb. Verbs admit and store.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, header};

use crate::authorise::{Attributes, authorise};
use crate::body::{self, Body};
use crate::call::Call;
use crate::identity::Identity;
use crate::path::{self, Objects, Path};
use crate::query::Query;
use crate::server::{ApiServer, stored_under};
use crate::status::Status;
use crate::warning::Warnings;
use crate::{discovery, health, hook, kubelet, media, proxy, review, verb};

pub(crate) async fn handle(
    server: ApiServer,
    identity: Option<Arc<Identity>>,
    request: Request<Body>,
) -> Response<Body> {
    let id = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string());
    let output = media::output_of_status(request.headers(), request.uri().query().unwrap_or_default());
    let registry = server.registry.clone();
    let mut response = route(server, identity, request).await.unwrap_or_else(|status| status.response());
    if output != media::Output::default()
        && let Some(status) = response.extensions_mut().remove::<Status>()
        && let Ok(bytes) = media::encode(&registry, output, status.to_json().into())
    {
        *response.body_mut() = body::full(bytes);
        let content_type = HeaderValue::from_static(output.format.content_type(false));
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    if let Ok(id) = id {
        response.headers_mut().insert("audit-id", id);
    }
    response
}

async fn route(
    server: ApiServer,
    identity: Option<Arc<Identity>>,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let uri = request.uri().clone();
    let target = if uri.path().starts_with('/') { uri.path().to_owned() } else { format!("/{}", uri.path()) };
    let query = Query::parse(uri.query().unwrap_or_default());
    let path = path::parse(&target).ok_or_else(Status::no_such_path)?;
    if let Path::Other(path) = path
        && let Some(answer) = health::open(path, &query, request.headers())
    {
        return Ok(answer);
    }
    let identity = identity.ok_or_else(Status::unauthorized)?;
    let identity = impersonated(identity, request.headers())?;
    match path {
        Path::Objects(objects) => of_objects(server, identity, objects, query, request).await,
        other => {
            if !matches!(*request.method(), Method::GET | Method::HEAD) {
                let message = "the server does not allow this method on the requested resource";
                return Err(Status::new(405, "MethodNotAllowed", message));
            }
            discovery::answer(&server, &other, &query, request.headers())
        }
    }
}

/// Who the request is to be made as: administrators may act as others.
fn impersonated(identity: Arc<Identity>, headers: &HeaderMap) -> Result<Arc<Identity>, Status> {
    let Some(user) = headers.get("impersonate-user").and_then(|user| user.to_str().ok()) else { return Ok(identity) };
    if !identity.groups.iter().any(|group| group == "system:masters") {
        let (by, user) = (&identity.user, user);
        let message = format!("users \"{user}\" is forbidden: User \"{by}\" cannot impersonate resource \"users\"");
        return Err(Status::new(403, "Forbidden", message));
    }
    let groups = headers.get_all("impersonate-group").iter().filter_map(|group| group.to_str().ok());
    Ok(Arc::new(Identity::new(user, groups.map(str::to_owned))))
}

async fn of_objects(
    server: ApiServer,
    identity: Arc<Identity>,
    path: Objects<'_>,
    query: Query,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let resource = server.registry.resource(path.group, path.version, path.plural);
    let resource = resource.ok_or_else(Status::no_such_path)?.clone();
    if resource.namespaced == path.namespace.is_empty() && (!resource.namespaced || !path.name.is_empty()) {
        return Err(Status::no_such_path());
    }
    let verb = verb_of(request.method(), &path, &query)
        .ok_or_else(|| Status::method_not_allowed(&resource, request.method().as_str()))?;
    let serves = match path.subresource {
        "" => resource.has_verb(verb),
        sub => {
            let sub = resource.subresource(sub).ok_or_else(Status::no_such_path)?;
            sub.verbs.iter().any(|has| has == verb)
        }
    };
    if !serves || (verb == "create" && resource.namespaced && path.namespace.is_empty()) {
        return Err(Status::method_not_allowed(&resource, verb));
    }
    authorise(
        &identity,
        &Attributes {
            verb,
            group: &resource.group,
            resource: &resource.plural,
            subresource: path.subresource,
            namespace: &path.namespace,
            name: &path.name,
        },
    )?;
    let proxied = (path.subresource == "proxy").then(|| path.rest.to_owned());
    let connects = proxied.is_some() || kubelet::SUBRESOURCES.contains(&path.subresource) && resource.plural == "pods";
    // A streaming kubelet call has no object to negotiate about.
    let output = if connects {
        media::Output::default()
    } else {
        let offer = media::Offer::of(&server.registry, resource.type_id, verb == "watch");
        media::output(request.headers(), &query, offer)?
    };
    let stored = stored_under(&resource);
    let (namespace, name) = (path.namespace.into_owned(), path.name.into_owned());
    let subresource = path.subresource.to_owned();
    let conversion = hook::conversion(&resource);
    let (mut parts, body) = request.into_parts();
    let headers = std::mem::take(&mut parts.headers);
    let mut call = Call {
        server,
        identity,
        conversion,
        resource,
        stored: stored.into(),
        namespace,
        name,
        subresource,
        query,
        output,
        headers,
        body: bytes::Bytes::new(),
        warnings: Warnings::default(),
    };
    if let Some(rest) = proxied {
        return proxy::forward(&call, parts, body, &rest).await;
    }
    if connects {
        return kubelet::forward(&call, parts).await;
    }
    call.body = body::read(body).await?;
    let warnings = call.warnings.clone();
    warnings.add(schema::deprecation(&call.resource).as_ref());
    let mut response = dispatch(call, verb).await.unwrap_or_else(|status| status.response());
    warnings.write(&mut response);
    Ok(response)
}

async fn dispatch(call: Call, verb: &str) -> Result<Response<Body>, Status> {
    if let Some(answer) = review::answer(&call) {
        return answer;
    }
    match (verb, call.subresource.as_str()) {
        (_, "scale") => verb::scale(&call, verb).await,
        ("create", "binding") => hook::pod::bind(&call).await,
        ("create", "eviction") => hook::pod::evict(&call).await,
        ("update", "finalize") => hook::namespace::finalize(&call).await,
        ("get", "" | "status" | "ephemeralcontainers" | "resize" | "approval") => verb::get(&call).await,
        ("update", _) => verb::update(&call).await,
        ("patch", _) => verb::patch(&call).await,
        ("create", "") => verb::create(&call).await,
        ("delete", "") => verb::delete(&call).await,
        ("deletecollection", "") => verb::deletecollection(&call).await,
        ("list", "") => verb::list(&call).await,
        ("watch", "") => verb::watch(call).await,
        _ => Err(Status::no_such_path()),
    }
}

/// The verb of a method, as authorisation has it.
fn verb_of(method: &Method, path: &Objects<'_>, query: &Query) -> Option<&'static str> {
    let named = !path.name.is_empty();
    Some(match (method.as_str(), named) {
        ("GET", _) if path.watch || (!named && query.is_true("watch")) => "watch",
        ("GET" | "HEAD", true) => "get",
        ("GET" | "HEAD", false) => "list",
        ("POST", _) => "create",
        ("PUT", true) => "update",
        ("PATCH", true) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => return None,
    })
}
