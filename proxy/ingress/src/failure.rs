//! Errors that the default backend explains (`custom-http-errors`).

use http::header::{ACCEPT, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, request};

use crate::body::{Body, Outgoing};
use crate::head::{self, Client, X_REQUEST_ID};
use crate::record::Trace;
use crate::send::{Way, send};
use crate::serve::Thread;
use crate::{Errors, Protocol, Route};

/// What the default backend is told about a request.
pub(crate) struct Asked {
    method: Method,
    target: PathAndQuery,
    headers: HeaderMap,
}

impl Asked {
    /// Remembers what is needed of a request, which has an id from now on.
    pub(crate) fn new(
        thread: &Thread,
        client: &Client,
        parts: &mut request::Parts,
        host: Option<&HeaderValue>,
    ) -> Self {
        parts.headers.entry(X_REQUEST_ID).or_insert_with(|| thread.id());
        let method = if parts.method == Method::HEAD { Method::HEAD } else { Method::GET };
        let target = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let mut headers = HeaderMap::from_iter([(head::X_FORWARDED_FOR, client.address.clone())]);
        let kept = [(ACCEPT, HeaderName::from_static("x-format")), (X_REQUEST_ID, X_REQUEST_ID)];
        for (from, to) in kept {
            parts.headers.get(from).map(|value| headers.insert(to, value.clone()));
        }
        host.map(|host| headers.insert(HOST, host.clone()));
        Asked { method, target, headers }
    }

    /// What the default backend says to `status`; none where it says nothing.
    pub(crate) async fn explain(
        self,
        thread: &Thread,
        route: &Route,
        errors: &Errors,
        status: StatusCode,
    ) -> Option<http::Response<Body>> {
        let (backend, service) = (errors.backend.as_deref()?, route.backend.as_deref());
        let way = Way { upstream: backend, protocol: Protocol::Http, timeouts: &route.policy.timeouts, first: None };
        let query = self.target.query().map(|query| format!("/?{query}"));
        let mut request = Request::new(Outgoing::Empty);
        *request.method_mut() = self.method;
        *request.uri_mut() = query.and_then(|target| target.parse().ok()).unwrap_or_default();
        *request.headers_mut() = self.headers;
        let told = [
            ("x-code", status.as_str()),
            ("x-original-uri", self.target.as_str()),
            ("x-namespace", &*route.ingress.namespace),
            ("x-ingress-name", &*route.ingress.name),
            ("x-service-name", service.map_or("", |upstream| &*upstream.service.name)),
            ("x-service-port", service.map_or("", |upstream| &*upstream.port)),
        ];
        for (name, value) in told {
            let value = HeaderValue::try_from(value).ok()?;
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        let (parts, body) = request.into_parts();
        let mut response =
            send(thread, &way, &mut Trace::default(), parts, body).await.ok()?.response.map(Body::Relayed);
        head::strip(response.headers_mut());
        Some(response)
    }
}

impl Errors {
    /// Whether the default backend explains an answer with this status. Without codes of its own it explains what has no
    /// endpoints.
    pub(crate) fn cover(&self, status: StatusCode, endpoints: bool) -> bool {
        self.codes.contains(&status) || !endpoints && status == StatusCode::SERVICE_UNAVAILABLE
    }
}
