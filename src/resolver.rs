//! A pod's resolver: which names it tries, whom it asks and how.

use std::{io, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use hickory_proto::{
    op::{Edns, Message, Query},
    rr::{Name, RecordType},
};
use k8s_openapi::api::core::v1::PodSpec;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::place::Place;

/// How long one answer may take, and how often the question is sent: resolv.conf(5)'s defaults.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 2;

/// What fits into one frame everywhere (DNS flag day 2020).
const UDP_SIZE: u16 = 1232;

/// What a pod's resolv.conf says.
#[derive(Debug)]
pub(crate) struct Resolver {
    /// Whom to ask.
    pub(crate) server: SocketAddr,
    /// What is put behind names that are not complete.
    pub(crate) search: Vec<String>,
    /// From so many dots on a name is first tried as it is.
    pub(crate) ndots: usize,
}

impl Resolver {
    /// That of a pod with this spec, where the cluster has this domain and DNS address.
    ///
    /// # Errors
    /// When the pod has no name server.
    pub(crate) fn of(spec: &PodSpec, namespace: &str, domain: &str, dns: &str) -> anyhow::Result<Self> {
        let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let dns = dns.parse().context("read the cluster's DNS address")?;
        let resolv = node::resolv(spec, namespace, domain, dns, &node::Resolv::parse(&host));
        let server = resolv.servers.first().context("the pod has no name server")?;
        let server = SocketAddr::new(server.parse().with_context(|| format!("ask {server}"))?, 53);
        let ndots = resolv.options.iter().find_map(|option| option.strip_prefix("ndots:")?.parse().ok()).unwrap_or(1);
        Ok(Self { server, search: resolv.search, ndots })
    }

    /// The names that are tried one after the other (resolv.conf(5)).
    ///
    /// # Errors
    /// When it can be no domain name.
    pub(crate) fn names(&self, name: &str) -> anyhow::Result<Vec<Name>> {
        let full = |text: &str| Name::from_ascii(text).with_context(|| format!("{text:?} is no domain name"));
        if name.ends_with('.') {
            return Ok(vec![full(name)?]);
        }
        let mut names: Vec<Name> = Vec::new();
        for domain in &self.search {
            // What gets too long is left out.
            names.extend(full(&format!("{name}.{}.", domain.trim_end_matches('.'))).ok());
        }
        let own = full(&format!("{name}."))?;
        let at = if name.matches('.').count() < self.ndots { names.len() } else { 0 };
        names.insert(at, own);
        Ok(names)
    }

    /// The answer to a question, by TCP where UDP is too small; none when there is none in time.
    ///
    /// # Errors
    /// When the server refuses, or answers with something else than DNS.
    pub(crate) async fn ask(&self, from: &Place, name: &Name, kind: RecordType) -> anyhow::Result<Option<Message>> {
        let mut question = Message::query();
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(name.clone(), kind));
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_SIZE);
        question.edns = Some(edns);
        let packet = question.to_vec()?;
        for _ in 0..ATTEMPTS {
            let Ok(bytes) = timeout(PATIENCE, self.over_udp(from, &packet)).await else { continue };
            let answer = Message::from_vec(&bytes.with_context(|| format!("ask {}", self.server))?)?;
            if !answer.metadata.truncation {
                return Ok(Some(answer));
            }
            let bytes = timeout(PATIENCE, self.over_tcp(from, &packet)).await;
            return Ok(Some(Message::from_vec(&bytes.context("no answer over TCP")??)?));
        }
        Ok(None)
    }

    async fn over_udp(&self, from: &Place, packet: &[u8]) -> io::Result<Vec<u8>> {
        let socket = from.udp(self.server).await?;
        socket.send(packet).await?;
        let mut bytes = vec![0; usize::from(UDP_SIZE)];
        loop {
            let length = socket.recv(&mut bytes).await?;
            if bytes[..length].starts_with(&packet[..2]) {
                bytes.truncate(length);
                return Ok(bytes);
            }
        }
    }

    async fn over_tcp(&self, from: &Place, packet: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut stream = from.tcp(self.server.ip())?.connect(self.server).await?;
        let length = u16::try_from(packet.len())?.to_be_bytes();
        stream.write_all(&[&length, packet].concat()).await?;
        let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut bytes).await?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_tried() {
        let table = [
            ("web.", 5, "web."),
            ("web", 5, "web.a. web.b.c. web."),
            ("web.dev", 2, "web.dev.a. web.dev.b.c. web.dev."),
            ("web.dev", 1, "web.dev. web.dev.a. web.dev.b.c."),
        ];
        let resolver =
            |ndots| Resolver { server: ([10, 96, 0, 10], 53).into(), search: vec!["a".into(), "b.c.".into()], ndots };
        for (name, ndots, want) in table {
            let names = resolver(ndots).names(name).expect("names");
            assert_eq!(names.iter().map(Name::to_string).collect::<Vec<_>>().join(" "), want, "{name} {ndots}");
        }
        assert!(resolver(5).names("a..b").is_err());
    }
}
