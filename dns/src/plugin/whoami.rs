//! Tells clients who they are.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::SRV;
use hickory_proto::rr::{Name, RData, Record};

use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Directive};
use crate::request::{Failure, Reply, Request, Sections, Transport};

const NAME: &str = "whoami";

struct Whoami;

/// `whoami`: every question gets its client's address, and its port as an SRV record under the
/// transport (`_udp.<name>`), as additional records.
pub(crate) fn setup(_: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    setup.push(Whoami);
    Ok(())
}

impl Plugin for Whoami {
    async fn handle(self: Arc<Self>, request: Request, _: Next) -> Result<Reply, Failure> {
        let (name, client) = (request.name(), request.context.client);
        let address = match client.ip() {
            IpAddr::V4(address) => RData::A(address.into()),
            IpAddr::V6(address) => RData::AAAA(address.into()),
        };
        let mut additionals = vec![Record::from_rdata(name.clone(), 0, address)];
        let transport = if request.context.transport == Transport::Udp { "_udp" } else { "_tcp" };
        // A name that is as long as names get has no room for the transport.
        if let Ok(owner) = name.prepend_label(transport) {
            let port = RData::SRV(SRV::new(0, 0, client.port(), Name::root()));
            additionals.push(Record::from_rdata(owner, 0, port));
        }
        let sections = Sections { additionals, ..Default::default() };
        Ok(Reply::message(NAME, request.reply(ResponseCode::NoError, true, sections)))
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::RecordType;

    use super::*;
    use crate::fixture;
    use crate::request::Body;

    #[tokio::test]
    async fn who_asks() {
        let servers = Arc::new(fixture::servers("whoami", fixture::cluster().snapshot()));
        let long = format!("{0}.{0}.{0}.{1}.", "a".repeat(63), "b".repeat(61));
        let table = [
            (
                "example.org.",
                Transport::Udp,
                "10.0.0.1:7",
                vec!["example.org. 0 IN A 10.0.0.1", "_udp.example.org. 0 IN SRV 0 0 7 ."],
            ),
            (".", Transport::Tcp, "[2001:db8::1]:9", vec![". 0 IN AAAA 2001:db8::1", "_tcp. 0 IN SRV 0 0 9 ."]),
            (&long, Transport::Udp, "10.0.0.1:7", vec![]),
        ];
        for (name, transport, client, want) in table {
            let mut request = fixture::request(name, RecordType::A, &servers);
            request.context.client = client.parse().unwrap();
            request.context.transport = transport;
            let Body::Message(answer) = servers.clone().handle(request).await.unwrap().body else { panic!("silence") };
            assert!(answer.answers.is_empty());
            let records: Vec<String> = answer.additionals.iter().map(|record| record.to_string()).collect();
            match &want[..] {
                [] => assert_eq!(records.len(), 1),
                want => assert_eq!(records, want),
            }
        }
    }
}
