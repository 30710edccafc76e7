//! What is asked.

/// How requests come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    Plain,
    Tls,
    /// TLS sessions that go on.
    Resumed,
    /// HTTP/2 over TLS.
    Http2,
}

/// One kind of load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) layer: Layer,
    pub(crate) hosts: usize,
    /// Connections at a time.
    pub(crate) clients: usize,
    /// Each request has a connection of its own.
    pub(crate) fresh: bool,
    /// Bytes of a request's body, and of its answer's.
    pub(crate) body: usize,
    pub(crate) answer: usize,
}

/// Hosts where there are many.
pub(crate) const MANY: usize = 1000;
const MIB: usize = 1 << 20;
const KEPT: Case = Case {
    name: "kept",
    title: "kept connections, 128 B",
    layer: Layer::Plain,
    hosts: 1,
    clients: 64,
    fresh: false,
    body: 0,
    answer: 128,
};

/// All that is measured.
pub(crate) const CASES: [Case; 12] = [
    KEPT,
    Case { name: "16k", title: "kept connections, 16 KiB", answer: 16 << 10, ..KEPT },
    Case { name: "1m", title: "kept connections, answers of 1 MiB, MB", answer: MIB, clients: 8, ..KEPT },
    Case { name: "bodies", title: "kept connections, requests of 1 MiB, MB", body: MIB, clients: 8, ..KEPT },
    Case { name: "new", title: "a connection for each request", fresh: true, ..KEPT },
    Case { name: "hosts", title: "kept connections, 1,000 hosts", hosts: MANY, ..KEPT },
    Case { name: "tls", title: "TLS on kept connections, 128 B", layer: Layer::Tls, ..KEPT },
    Case { name: "tls-1m", title: "TLS, answers of 1 MiB, MB", layer: Layer::Tls, answer: MIB, clients: 8, ..KEPT },
    Case { name: "handshakes", title: "a TLS handshake for each request", layer: Layer::Tls, fresh: true, ..KEPT },
    // rustls keeps eight tickets of a host.
    Case {
        name: "resumed",
        title: "a resumed TLS session for each request",
        layer: Layer::Resumed,
        fresh: true,
        clients: 4,
        ..KEPT
    },
    Case {
        name: "hosts-handshakes",
        title: "TLS handshakes, 1,000 hosts",
        layer: Layer::Tls,
        fresh: true,
        hosts: MANY,
        ..KEPT
    },
    Case { name: "h2", title: "HTTP/2 over TLS, 128 B", layer: Layer::Http2, clients: 16, ..KEPT },
];

impl Case {
    /// How much one request counts: itself, or the MB that it moves.
    pub(crate) fn weight(&self) -> f64 {
        let moved = self.body.max(self.answer);
        if moved < MIB { 1.0 } else { moved as f64 / 1e6 }
    }
}
