use super::*;

#[test]
fn pages_and_what_is_not_ready() {
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let synced = Arc::new(AtomicBool::new(false));
    let seen = synced.clone();
    let page = |directive, path, port| Page { directive, path, address: at(port) };
    let site = Site {
        pages: vec![page("health", "/health", 1), page("ready", "/ready", 2)],
        checks: vec![("kubernetes", Box::new(move || seen.load(Ordering::Relaxed))), ("forward", Box::new(|| true))],
        ..Default::default()
    };
    let get = |port, path| {
        let (status, body) = site.page(at(port), path);
        (status.as_u16(), body)
    };
    assert_eq!(get(1, "/health"), (200, "OK".into()));
    assert_eq!(get(2, "/health").0, 404);
    assert_eq!(get(1, "/").0, 404);
    assert_eq!(get(2, "/ready"), (503, "kubernetes".into()));
    synced.store(true, Ordering::Relaxed);
    assert_eq!(get(2, "/ready"), (200, "OK".into()));
    site.leaving.store(true, Ordering::Relaxed);
    assert_eq!(get(2, "/ready").0, 503);
    assert_eq!(get(1, "/health").0, 200);
}

#[test]
fn metrics_of_the_process() {
    let text = Site { version: "ab".into(), ..Default::default() }.metrics();
    for start in [
        "coredns_build_info{version=\"",
        "coredns_panics_total 0\n",
        "coredns_reload_failed_total 0\n",
        "coredns_reload_version_info{hash=\"sha512\",value=\"ab\"} 1\n",
        "process_cpu_seconds_total ",
        "process_resident_memory_bytes ",
    ] {
        assert!(text.contains(&format!("\n{start}")), "{start} in {text}");
    }
}
