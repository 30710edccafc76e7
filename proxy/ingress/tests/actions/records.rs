//! The access log and the metrics.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ingress::{Metrics, Policy};
use regex::Regex;

use crate::world::{World, endpoint, nobody, route, upstream};

/// The log, as soon as it has `count` lines.
async fn logged(lines: &Mutex<Vec<u8>>, count: usize) -> String {
    let text = async {
        loop {
            let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
            if text.lines().count() >= count {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), text).await.unwrap()
}

#[tokio::test]
async fn some_requests_are_not_logged() {
    let lines = Arc::<Mutex<Vec<u8>>>::default();
    let app = upstream("app", &[endpoint("app").await]);
    let sink = lines.clone();
    let world = World::with(route(&app, Policy { logged: false, ..Policy::default() }), move |server| {
        server.logging(Arc::new(move |lines: &[u8]| sink.lock().unwrap().extend_from_slice(lines)))
    });
    assert_eq!(world.ask("GET /quiet", &[]).await.status, 200);
    assert_eq!(world.ask("GET http://other.com/loud", &[]).await.status, 404);
    let text = logged(&lines, 1).await;
    assert!(text.contains("/loud") && !text.contains("/quiet"), "{text}");
}

#[tokio::test]
async fn requests_are_logged_and_counted() {
    let lines = Arc::<Mutex<Vec<u8>>>::default();
    let metrics = Arc::new(Metrics::new("node-1"));
    let refusing = nobody();
    let at = endpoint("app").await;
    let app = upstream("app", &[refusing, at]);
    let (sink, counts) = (lines.clone(), metrics.clone());
    let world = World::with(route(&app, Policy::default()), move |server| {
        let sink = Arc::new(move |lines: &[u8]| sink.lock().unwrap().extend_from_slice(lines));
        server.logging(sink).counting(counts)
    });
    let headers = ["User-Agent: a\"b", "X-Request-ID: abc", "Authorization: Basic YW5uOmFub3RoZXI="];
    assert_eq!(world.ask("GET /x?y", &headers).await.status, 200);
    assert_eq!(world.ask("GET /x", &["Want: 404"]).await.status, 404);
    app.update(vec![refusing]);
    assert_eq!(world.ask("DELETE /", &[]).await.status, 502);

    let text = logged(&lines, 3).await;
    let [time, took] = [r"\[\d\d/\w\w\w/\d{4}:\d\d:\d\d:\d\d \+0000\]", r"\d\.\d{3}"];
    let tried = format!("(?:{refusing}, )?{at}");
    for expected in [
        format!(
            r#"^127.0.0.1 - ann {time} "GET /x\?y HTTP/1.1" 200 \d+ "-" "a\\x22b" \d+ {took} \[default-app-http\] \[\] {tried} (?:0, )?\d+ (?:-, )?{took} (?:502, )?200 abc$"#
        ),
        format!(r#"^127.0.0.1 - - {time} "GET /x HTTP/1.1" 404 .* (?:502, )?404 [0-9a-f]{{32}}$"#),
        format!(
            r#"^127.0.0.1 - - {time} "DELETE / HTTP/1.1" 502 .* {refusing}, {refusing}, {refusing} 0, 0, 0 -, -, - 502, 502, 502 [0-9a-f]{{32}}$"#
        ),
    ] {
        let expression = Regex::new(&expected).unwrap();
        assert_eq!(text.lines().filter(|line| expression.is_match(line)).count(), 1, "{expected}\n{text}");
    }

    let text = metrics.text();
    let own = r#"controller_class="k8s.io/ingress-nginx",controller_namespace="kube-system",controller_pod="node-1""#;
    for (method, status) in [("GET", 200), ("GET", 404), ("DELETE", 502)] {
        let labels = format!(
            r#"{own},canary="",host="app.com",ingress="app",method="{method}",namespace="default",path="/",service="app",status="{status}""#
        );
        for line in [
            format!("nginx_ingress_controller_requests{{{labels}}} 1\n"),
            format!("nginx_ingress_controller_request_duration_seconds_count{{{labels}}} 1\n"),
            format!("nginx_ingress_controller_response_size_count{{{labels}}} 1\n"),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
    }
}
