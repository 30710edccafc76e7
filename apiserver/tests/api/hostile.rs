//! What no client would send: refused with a Status, within bounds, and the server goes on.

use std::time::Duration;

use apiserver::{ApiServer, Identity};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::support::{raw, start};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

#[tokio::test]
async fn bodies() {
    let (server, _client) = start().await;
    let config_map =
        |raw: &[u8]| [b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12", &[raw.len() as u8][..], raw].concat();
    // Each line has ten times what the one before it has.
    let mut aliases = format!("a: &a [{}]\n", "x,".repeat(10));
    for (from, to) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        aliases += &format!("{to}: &{to} [{}]\n", format!("*{from},").repeat(10));
    }
    for (content_type, body, code) in [
        ("application/json", vec![b' '; (3 << 20) + 1], 413),
        ("application/yaml", vec![b' '; (3 << 20) + 1], 413),
        ("application/yaml", aliases.into_bytes(), 400),
        ("application/json", "{\"a\":".repeat(100_000).into_bytes(), 400),
        ("application/yaml", "{a: ".repeat(100_000).into_bytes(), 400),
        ("application/yaml", "- ".repeat(100_000).into_bytes(), 400),
        ("application/json", br#"{"metadata":{"name":"a","generation":1e400}}"#.to_vec(), 400),
        ("application/json", br#"{"metadata":{"name":"a","generation":99999999999999999999}}"#.to_vec(), 400),
        ("application/json", b"{\"metadata\":{\"name\":\"\xff\"}}".to_vec(), 400),
        ("application/yaml", b"metadata: {name: \xff}".to_vec(), 400),
        (PROTOBUF, config_map(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), 400),
        (PROTOBUF, config_map(b"\x0a\x03\x0a\x01\xff"), 400),
        // gzip, which Kubernetes does not take for bodies.
        ("application/json", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03".to_vec(), 400),
    ] {
        let answer = raw(&server, "POST", MAPS, &[("content-type", content_type)], &body).await;
        assert_eq!(answer.code, code, "{content_type} {:?}: {:?}", &body[..body.len().min(60)], answer.body);
        assert_eq!(answer.json()["kind"], "Status");
    }
}

#[tokio::test]
async fn nesting_cannot_be_stored() {
    let (server, _client) = start().await;
    let revisions = "/apis/apps/v1/namespaces/default/controllerrevisions";
    let deep = |levels: usize| "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
    let revision = |levels| format!(r#"{{"metadata":{{"name":"a"}},"revision":1,"data":{}}}"#, deep(levels));
    assert_eq!(raw(&server, "POST", revisions, &[], revision(110)).await.code, 400);
    assert_eq!(raw(&server, "POST", revisions, &[], revision(90)).await.code, 201);
    let one = format!("{revisions}/a");
    let path = "/data".to_owned() + &"/a".repeat(89) + "/b";
    for (content_type, patch) in [
        ("application/json-patch+json", format!(r#"[{{"op":"add","path":"{path}","value":{}}}]"#, deep(50))),
        ("application/merge-patch+json", format!(r#"{{"data":{}}}"#, deep(120))),
        ("application/strategic-merge-patch+json", format!(r#"{{"data":{}}}"#, deep(120))),
    ] {
        let answer = raw(&server, "PATCH", &one, &[("content-type", content_type)], patch).await;
        assert_eq!(answer.json()["status"], "Failure", "{content_type}");
        assert!((400..500).contains(&answer.code), "{content_type}: {:?}", answer.body);
    }
    // The deepest that is taken can be changed, too, and its managed fields are deeper.
    let label = br#"{"metadata":{"labels":{"a":"b"}}}"#;
    assert_eq!(
        raw(&server, "POST", revisions, &[], revision(100).replace("\"name\":\"a\"", "\"name\":\"b\"")).await.code,
        201
    );
    let merge = [("content-type", "application/merge-patch+json")];
    let answer = raw(&server, "PATCH", &format!("{revisions}/b"), &merge, label).await;
    assert_eq!(answer.code, 200, "{:?}", answer.body);
}

/// What a server on a socket answers to these bytes, up to its end or a quiet second.
async fn sent(server: &ApiServer, parts: &[&[u8]]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn({
        let (server, shutdown) = (server.clone(), shutdown.clone());
        async move { server.serve_unix(listener, Identity::admin(), shutdown).await }
    });
    let (mut reader, mut writer) = tokio::net::UnixStream::connect(&path).await.unwrap().into_split();
    let mut said = Vec::new();
    let write = async {
        for part in parts {
            if writer.write_all(part).await.is_err() {
                break;
            }
        }
        // Nothing more comes.
        let _ = writer.shutdown().await;
        std::future::pending::<()>().await;
    };
    let end = async {
        tokio::select! {
            () = write => {}
            _ = reader.read_to_end(&mut said) => {}
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), end).await;
    assert!(ended.is_ok(), "no end after {:?}", String::from_utf8_lossy(&said));
    drop((reader, writer));
    shutdown.cancel();
    serving.await.unwrap().unwrap();
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn heads_and_chunks() {
    let (server, _client) = start().await;
    let long = "x".repeat(100 << 10);
    for (head, code) in [
        (format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n"), "4"),
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n"), "431"),
        (format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(1000)), "431"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
    ] {
        let said = sent(&server, &[head.as_bytes()]).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {code}")), "{:?}: {said}", &head[..20]);
    }
    // No length is said, and it is too much.
    let head = format!("POST {MAPS} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = [b"100000\r\n".to_vec(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
    let said = sent(&server, &[head.as_bytes(), &chunk, &chunk, &chunk, &chunk]).await;
    assert!(said.starts_with("HTTP/1.1 413") && said.contains("RequestEntityTooLarge"), "{said}");
}

/// A small generator of numbers, the same from run to run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

/// Pieces that mean something somewhere.
const WORDS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "-1",
    "1e999",
    "99999999999999999999",
    "%00",
    "%ff",
    "..",
    "//",
    "=",
    "!",
    " in (",
    ")",
    "~1",
    "$patch",
    "k:{",
    "\u{0}",
    "é",
];

/// A text with a few bytes changed, taken out, doubled or put in.
fn mutated(text: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = text.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(4) {
            0 => drop(bytes.splice(at..at, WORDS[random.below(WORDS.len())].bytes())),
            1 => bytes.truncate(at.max(1)),
            2 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            _ => {
                let end = (at + random.below(20)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, part));
            }
        }
    }
    bytes
}

#[tokio::test]
async fn whatever_is_asked_has_an_answer() {
    let (server, _client) = start().await;
    let pod = json!({"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i",
        "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}}}]}});
    let pods = "/api/v1/namespaces/default/pods";
    assert_eq!(raw(&server, "POST", pods, &[], pod.to_string()).await.code, 201);
    let protobuf = raw(&server, "GET", &format!("{pods}/p"), &[("accept", PROTOBUF)], "").await.body;
    let one = format!("{pods}/p?fieldManager=m");
    let list =
        format!("{pods}?labelSelector=a%20in%20(b,c),!d&fieldSelector=spec.nodeName%3Dn,metadata.name!%3Dx&limit=1");
    let applied = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {x: 'y'}}\nspec:\n  containers: [{name: c, image: j}]\n";
    let json_patch = br#"[{"op":"add","path":"/metadata/labels/x","value":"y"},{"op":"test","path":"/spec/containers/0/name","value":"c"}]"#;
    let strategic = br#"{"spec":{"$setElementOrder/containers":[{"name":"c"}],"containers":[{"name":"c","$patch":"merge","image":"k"}]}}"#;
    let pod = pod.to_string();
    let requests: [(&str, &str, &str, &[u8]); 9] = [
        ("GET", &list, "", b""),
        ("POST", pods, "application/json", pod.as_bytes()),
        ("POST", pods, "application/yaml", applied.as_bytes()),
        ("PUT", &one, PROTOBUF, &protobuf),
        ("PATCH", &one, "application/json-patch+json", json_patch),
        ("PATCH", &one, "application/merge-patch+json", pod.as_bytes()),
        ("PATCH", &one, "application/strategic-merge-patch+json", strategic),
        ("PATCH", &one, "application/apply-patch+yaml", applied.as_bytes()),
        (
            "DELETE",
            &format!("{pods}/x"),
            "application/json",
            br#"{"kind":"DeleteOptions","preconditions":{"uid":"u"}}"#,
        ),
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..3000 {
        let (method, uri, content_type, body) = requests[random.below(requests.len())];
        let in_uri = body.is_empty() || random.below(4) == 0;
        let uri = if in_uri {
            String::from_utf8_lossy(&mutated(uri.as_bytes(), &mut random)).into_owned()
        } else {
            uri.into()
        };
        let body = if in_uri { body.to_vec() } else { mutated(body, &mut random) };
        // What is no request target never gets here.
        if !uri.starts_with('/') || uri.contains("watch") || uri.parse::<http::Uri>().is_err() {
            continue;
        }
        let accept = if random.below(3) == 0 { PROTOBUF } else { "application/json" };
        let headers = [("content-type", content_type), ("accept", accept)];
        let answer = raw(&server, method, &uri, &headers, &body).await;
        let told = || format!("{round}: {method} {uri} {}: {:?}", String::from_utf8_lossy(&body), answer.body);
        assert!(answer.code < 500 || matches!(answer.code, 501 | 504), "{}", told());
        if answer.code >= 400 && accept != PROTOBUF {
            assert_eq!(serde_json::from_slice::<Value>(&answer.body).unwrap()["kind"], "Status", "{}", told());
        }
    }
}
