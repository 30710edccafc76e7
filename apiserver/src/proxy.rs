//! The subresource `proxy` of pods, services and nodes: HTTP of any kind with what listens there, by way of a kubelet
//! API, since pods may be in a network that only their node is in.

use std::net::{IpAddr, SocketAddr};

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use serde_json::Value;
use store::Key;

use crate::answer;
use crate::body::{self, Body};
use crate::call::Call;
use crate::kubelet::{connect, said, shake, splice};
use crate::object::{list, text};
use crate::status::Status;

/// Headers that are between neighbours only, and those that are for the API server.
const OWN: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "authorization",
];

/// Where a request goes.
#[derive(Debug, PartialEq)]
enum Target {
    /// The kubelet API of a node.
    Kubelet(String),
    /// An address in the network of a node.
    Address(String, SocketAddr),
}

/// `[scheme:]name[:port]`
#[derive(Debug, PartialEq)]
struct Id<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

impl<'a> Id<'a> {
    fn parse(id: &'a str) -> Option<Self> {
        let parts: Vec<&str> = id.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme @ ("" | "http" | "https"), name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        (!name.is_empty()).then_some(Self { scheme, name, port })
    }
}

/// Passes a request on; `rest` is the path there.
pub(crate) async fn forward(call: &Call, mut parts: Parts, body: Body, rest: &str) -> Result<Response<Body>, Status> {
    let own = parts.uri.path();
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    // Links of a page are relative to a directory.
    if rest.is_empty() && matches!(parts.method, Method::GET | Method::HEAD) {
        let mut response = Response::new(body::full(""));
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        let location = HeaderValue::from_str(&format!("{own}/{query}"));
        let location = location.map_err(|error| Status::bad_request(error.to_string()))?;
        response.headers_mut().insert(header::LOCATION, location);
        return Ok(response);
    }
    let mut sender = match target(call)? {
        Target::Kubelet(node) => connect(call, &node).await?,
        Target::Address(node, address) => dial(call, &node, address).await?,
    };
    let prefix = own.strip_suffix(rest).unwrap_or(own).to_owned();
    let uri = if rest.is_empty() { format!("/{query}") } else { format!("{rest}{query}") };
    let mut request = Request::builder().method(&parts.method).uri(uri);
    if let Some(headers) = request.headers_mut() {
        *headers = passed(&call.headers, own, parts.uri.authority().map(|authority| authority.as_str()));
    }
    let upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let request = request.body(body).map_err(|error| Status::bad_request(error.to_string()))?;
    let mut response = sender.send_request(request).await.map_err(unreachable)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(splice(call, upgrade, response));
    }
    returned(response.headers_mut(), &prefix);
    Ok(response.map(body::erase::<Incoming>))
}

fn unreachable(error: impl std::fmt::Display) -> Status {
    unavailable(format!("error trying to reach service: {error}"))
}

fn unavailable(message: String) -> Status {
    Status::new(503, "ServiceUnavailable", message)
}

/// Asks a node to connect to an address, and speaks HTTP there.
async fn dial(call: &Call, node: &str, address: SocketAddr) -> Result<SendRequest<Body>, Status> {
    let mut sender = connect(call, node).await?;
    let request = Request::get(format!("/dial/{address}")).header(header::HOST, "kubelet");
    let request = request.header(header::CONNECTION, "upgrade").header(header::UPGRADE, "tcp");
    let request = request.body(body::full("")).map_err(unreachable)?;
    let mut response = sender.send_request(request).await.map_err(unreachable)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(unreachable(said(response).await));
    }
    let connection = hyper::upgrade::on(&mut response).await.map_err(unreachable)?;
    shake(connection).await.map_err(unreachable)
}

/// The headers that are for the one behind; those of an upgrade, too.
fn passed(from: &HeaderMap, path: &str, authority: Option<&str>) -> HeaderMap {
    let upgrades = from.contains_key(header::UPGRADE);
    let passes = |name: &HeaderName| match name.as_str() {
        "connection" | "upgrade" => upgrades,
        name => !OWN.contains(&name) && !name.starts_with("impersonate-"),
    };
    let mut headers: HeaderMap =
        from.iter().filter(|(name, _)| passes(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
    let host = from.get(header::HOST).cloned();
    let host = host.or_else(|| HeaderValue::from_str(authority?).ok());
    let host = host.unwrap_or_else(|| HeaderValue::from_static("localhost"));
    headers.insert("x-forwarded-host", host.clone());
    headers.insert(header::HOST, host);
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    if let Ok(path) = HeaderValue::from_str(path) {
        headers.insert("x-forwarded-uri", path);
    }
    headers
}

/// What came back, for this neighbour; redirections lead through the proxy again.
fn returned(headers: &mut HeaderMap, prefix: &str) {
    for name in OWN {
        headers.remove(name);
    }
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.filter(|location| location.starts_with('/') && !location.starts_with("//"));
    if let Some(Ok(location)) = location.map(|location| HeaderValue::from_str(&format!("{prefix}{location}"))) {
        headers.insert(header::LOCATION, location);
    }
}

/// What the name in the path means.
fn target(call: &Call) -> Result<Target, Status> {
    let kind = &*call.resource.singular;
    let id =
        Id::parse(&call.name).ok_or_else(|| Status::bad_request(format!("invalid {kind} request {:?}", call.name)))?;
    if id.scheme == "https" {
        return Err(Status::bad_request("the proxy of this API server speaks no https"));
    }
    let read = |plural: &'static str| {
        let entry = call.server.store.get(&Key::new(plural, call.namespace.as_str(), id.name));
        entry.map(|entry| answer::read(&entry.bytes)).transpose()
    };
    let found = |plural| read(plural)?.ok_or_else(|| Status::not_found(&call.resource, id.name));
    match kind {
        "pod" => of_pod(&found("/pods")?, id.port),
        "service" => of_service(&found("/services")?, read("/endpoints")?.as_ref(), &id, || any_node(call)),
        _ => {
            found("/nodes")?;
            Ok(Target::Kubelet(id.name.to_owned()))
        }
    }
}

/// A node that is there, for addresses that are no pods'.
fn any_node(call: &Call) -> String {
    let nodes = call.server.store.list("/nodes", None).1;
    nodes.first().map(|node| node.key.name.to_string()).unwrap_or_default()
}

fn of_pod(pod: &Value, port: &str) -> Result<Target, Status> {
    let ports = || list(pod, "/spec/containers").iter().flat_map(|container| list(container, "/ports"));
    let number = |port: &Value| port["containerPort"].as_u64().and_then(|number| u16::try_from(number).ok());
    let port = match port {
        "" => Some(ports().find_map(number).unwrap_or(80)),
        port => port.parse().ok().or_else(|| ports().find(|known| text(known, "/name") == port).and_then(number)),
    };
    let port = port.ok_or_else(|| Status::bad_request("the pod has no port of that name"))?;
    let (node, address) = (text(pod, "/spec/nodeName"), text(pod, "/status/podIP"));
    let address: IpAddr = address.parse().map_err(|_| Status::bad_request("address not allowed"))?;
    Ok(Target::Address(node.to_owned(), SocketAddr::new(address, port)))
}

fn of_service(
    service: &Value,
    endpoints: Option<&Value>,
    id: &Id<'_>,
    any_node: impl FnOnce() -> String,
) -> Result<Target, Status> {
    let mut port = id.port;
    if let Ok(number) = id.port.parse::<u64>() {
        let known = list(service, "/spec/ports").iter().find(|known| known["port"].as_u64() == Some(number));
        let none = || unavailable(format!("no service port {number} found for service {:?}", id.name));
        port = known.map(|known| text(known, "/name")).ok_or_else(none)?;
    }
    let subsets = endpoints.map(|endpoints| list(endpoints, "/subsets")).unwrap_or_default();
    let ready = subsets.iter().find_map(|subset| {
        let port = list(subset, "/ports").iter().find(|known| text(known, "/name") == port)?;
        let port = u16::try_from(port["port"].as_u64()?).ok()?;
        let addresses = list(subset, "/addresses");
        // Any will do; requests spread by the time they come.
        let address =
            addresses.get(jiff::Timestamp::now().subsec_nanosecond() as usize / 1000 % addresses.len().max(1))?;
        Some((SocketAddr::new(text(address, "/ip").parse().ok()?, port), text(address, "/nodeName")))
    });
    let none = || unavailable(format!("no endpoints available for service {:?}", id.name));
    let (address, node) = ready.ok_or_else(none)?;
    let node = if node.is_empty() { any_node() } else { node.to_owned() };
    Ok(Target::Address(node, address))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_have_schemes_and_ports() {
        for (id, parts) in [
            ("web", Some(("", "web", ""))),
            ("web:80", Some(("", "web", "80"))),
            ("http:web:", Some(("http", "web", ""))),
            ("https:web:tls", Some(("https", "web", "tls"))),
            (":web:80", Some(("", "web", "80"))),
            ("ftp:web:80", None),
            ("a:b:c:d", None),
            ("", None),
        ] {
            assert_eq!(Id::parse(id), parts.map(|(scheme, name, port)| Id { scheme, name, port }), "{id}");
        }
    }

    #[test]
    fn targets() {
        let at = |node: &str, address: &str| Target::Address(node.into(), address.parse().unwrap());
        let code = |target: Result<Target, Status>| target.map_err(|status| (status.code, status.message));
        let pod = json!({
            "spec": {"nodeName": "n", "containers": [{}, {"ports": [{"name": "web", "containerPort": 8080}]}]},
            "status": {"podIP": "10.244.0.5"},
        });
        assert_eq!(code(of_pod(&pod, "")), Ok(at("n", "10.244.0.5:8080")));
        assert_eq!(code(of_pod(&pod, "web")), Ok(at("n", "10.244.0.5:8080")));
        assert_eq!(code(of_pod(&pod, "81")), Ok(at("n", "10.244.0.5:81")));
        assert_eq!(code(of_pod(&pod, "none")).unwrap_err().0, 400);
        assert_eq!(code(of_pod(&json!({}), "80")), Err((400, "address not allowed".into())));
        let service = json!({"spec": {"ports": [{"name": "web", "port": 80}, {"name": "more", "port": 81}]}});
        let endpoints = json!({"subsets": [
            {"addresses": [{"ip": "10.244.0.5", "nodeName": "n"}], "ports": [{"name": "web", "port": 8080}]},
            {"addresses": [{"ip": "192.0.2.1"}], "ports": [{"name": "more", "port": 8081}]},
        ]});
        let of = |port, endpoints| {
            code(of_service(&service, endpoints, &Id { scheme: "", name: "s", port }, || "any".to_owned()))
        };
        assert_eq!(of("80", Some(&endpoints)), Ok(at("n", "10.244.0.5:8080")));
        assert_eq!(of("web", Some(&endpoints)), Ok(at("n", "10.244.0.5:8080")));
        assert_eq!(of("more", Some(&endpoints)), Ok(at("any", "192.0.2.1:8081")));
        assert_eq!(of("82", None), Err((503, "no service port 82 found for service \"s\"".into())));
        assert_eq!(of("80", None), Err((503, "no endpoints available for service \"s\"".into())));
    }

    #[test]
    fn headers_of_neighbours_stay() {
        let headers = |list: &[(&'static str, &'static str)]| -> HeaderMap {
            list.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
        };
        let from = [("host", "h"), ("connection", "close"), ("authorization", "x"), ("accept", "a")];
        let expected = [
            ("host", "h"),
            ("accept", "a"),
            ("x-forwarded-host", "h"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-uri", "/p"),
        ];
        assert_eq!(passed(&headers(&from), "/p", None), headers(&expected));
        let upgrade = passed(&headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]), "/p", Some("h"));
        assert_eq!(
            (&upgrade["connection"], &upgrade["upgrade"], &upgrade["host"]),
            (&"Upgrade".parse().unwrap(), &"websocket".parse().unwrap(), &"h".parse().unwrap())
        );
        let mut back = headers(&[("connection", "close"), ("location", "/login"), ("etag", "e")]);
        returned(&mut back, "/api/x/proxy");
        assert_eq!(back, headers(&[("location", "/api/x/proxy/login"), ("etag", "e")]));
    }
}
