//! One look at a container: an HTTP GET, a TCP connection, or a command. Probes and hooks are made
//! of these.

use super::exec;
use crate::network::said;
use http_body_util::Empty;
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{Container, ExecAction, HTTPGetAction, TCPSocketAction},
    apimachinery::pkg::util::intstr::IntOrString,
};
use std::time::Duration;
use tokio::net::TcpStream;

/// What a probe or hook does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Check {
    Http {
        host: String,
        port: u16,
        path: String,
        headers: Vec<(String, String)>,
    },
    Tcp {
        host: String,
        port: u16,
    },
    Exec(Vec<String>),
    Sleep(Duration),
    /// What this node can not do; it fails with this text.
    Unsupported(String),
}

impl Check {
    /// From the fields of a probe or hook; `None` when none is set. `address` is the pod's.
    pub(crate) fn new(
        container: &Container,
        address: &str,
        exec: Option<&ExecAction>,
        http: Option<&HTTPGetAction>,
        tcp: Option<&TCPSocketAction>,
    ) -> Option<Self> {
        let host = |own: Option<&String>| {
            let own = own.filter(|host| !host.is_empty());
            own.cloned().unwrap_or_else(|| address.to_owned())
        };
        if let Some(exec) = exec {
            return Some(Self::Exec(exec.command.clone().unwrap_or_default()));
        }
        if let Some(http) = http {
            if http.scheme.as_deref() == Some("HTTPS") {
                return Some(Self::Unsupported("HTTPS is not supported on this node".into()));
            }
            let headers = http.http_headers.iter().flatten();
            let path = http.path.clone().unwrap_or_default();
            return Some(match number(container, &http.port) {
                Ok(port) => Self::Http {
                    host: host(http.host.as_ref()),
                    port,
                    path: format!("/{}", path.trim_start_matches('/')),
                    headers: headers.map(|h| (h.name.clone(), h.value.clone())).collect(),
                },
                Err(error) => Self::Unsupported(error),
            });
        }
        let tcp = tcp?;
        Some(match number(container, &tcp.port) {
            Ok(port) => Self::Tcp { host: host(tcp.host.as_ref()), port },
            Err(error) => Self::Unsupported(error),
        })
    }

    /// Does it once. The error is the text that follows `Readiness probe failed: `.
    pub(crate) async fn run(&self, shim: &shim::Client, attempt: &str, patience: Duration) -> Result<(), String> {
        let seconds = patience.as_secs();
        match self {
            Self::Http { host, port, path, headers } => {
                let url = format!("http://{host}:{port}{path}");
                match tokio::time::timeout(patience, get(host, *port, path, headers)).await {
                    Ok(Ok(200..=399)) => Ok(()),
                    Ok(Ok(status)) => Err(format!("HTTP probe failed with statuscode: {status}")),
                    Ok(Err(error)) => Err(format!("Get {url:?}: {error}")),
                    Err(_) => Err(format!(
                        "Get {url:?}: context deadline exceeded \
                         (Client.Timeout exceeded while awaiting headers)"
                    )),
                }
            }
            Self::Tcp { host, port } => match tokio::time::timeout(patience, connect(host, *port)).await {
                Ok(connected) => connected.map(drop),
                Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout")),
            },
            Self::Exec(command) => match tokio::time::timeout(patience, exec::run(shim, attempt, command)).await {
                Ok(Ok((0, _))) => Ok(()),
                Ok(Ok((_, output))) => Err(output),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(format!("command timed out: {:?} timed out after {seconds}s", command.join(" "))),
            },
            Self::Sleep(time) => {
                tokio::time::sleep(*time).await;
                Ok(())
            }
            Self::Unsupported(text) => Err(text.clone()),
        }
    }
}

fn number(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_ref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    let number = number.and_then(|number| u16::try_from(number).ok());
    number.ok_or_else(|| match port {
        IntOrString::Int(number) => format!("invalid port number: {number}"),
        IntOrString::String(name) => format!("couldn't find port: {name:?}"),
    })
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let connected = TcpStream::connect((host, port)).await;
    connected.map_err(|error| format!("dial tcp {host}:{port}: connect: {}", said(&error)))
}

async fn get(host: &str, port: u16, path: &str, headers: &[(String, String)]) -> Result<u16, String> {
    let stream = connect(host, port).await?;
    let text = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let mut request = Request::get(path)
        .header("user-agent", "kube-probe/1.36")
        .header("accept", "*/*")
        .header("connection", "close");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header("host", format!("{host}:{port}"));
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    let answered = tokio::select! {
        biased;
        answered = &mut answer => answered,
        ended = connection => match ended {
            // The answer came whole before the connection ended.
            Ok(()) => answer.await,
            Err(error) => Err(error),
        },
    };
    answered.map(|answered| answered.status().as_u16()).map_err(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn probes_become_checks() {
        let container: Container =
            serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]})).unwrap();
        let http = |value| {
            let action: HTTPGetAction = serde_json::from_value(value).unwrap();
            Check::new(&container, "10.244.0.2", None, Some(&action), None).unwrap()
        };
        assert_eq!(
            http(json!({"port": "web", "path": "healthz"})),
            Check::Http { host: "10.244.0.2".into(), port: 8080, path: "/healthz".into(), headers: vec![] }
        );
        let unknown = http(json!({"port": "x"}));
        assert_eq!(unknown, Check::Unsupported("couldn't find port: \"x\"".into()));
        assert!(matches!(http(json!({"port": 70000})), Check::Unsupported(_)));
        assert_eq!(Check::new(&container, "", None, None, None), None);
    }
}
