//! hickory-server alone, with the names in a hash map.

use std::collections::HashMap;
use std::net::UdpSocket;

use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, MessageType, Metadata, ResponseCode};
use hickory_server::proto::rr::{LowerName, Name, RData, Record, rdata::SOA};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use super::cluster;

struct Names {
    known: HashMap<LowerName, Record>,
    soa: Record,
}

/// Answers for so many Services, for ever.
pub(crate) fn serve(socket: UdpSocket, services: usize) -> anyhow::Result<()> {
    let mut known = HashMap::new();
    for index in 0..services {
        let name = Name::from_ascii(cluster::name(index) + ".")?;
        let address = RData::A(cluster::address(index, 0).into());
        known.insert(LowerName::from(&name), Record::from_rdata(name, 5, address));
    }
    let domain = Name::from_ascii(format!("{}.", cluster::DOMAIN))?;
    let (server, mail) = (domain.prepend_label("ns")?, domain.prepend_label("hostmaster")?);
    let soa = RData::SOA(SOA::new(server, mail, 1, 7200, 1800, 86400, 5));
    let names = Names { known, soa: Record::from_rdata(domain, 5, soa) };
    socket.set_nonblocking(true)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut server = Server::new(names);
        server.register_socket(tokio::net::UdpSocket::from_std(socket)?);
        server.block_until_done().await?;
        Ok(())
    })
}

#[async_trait::async_trait]
impl RequestHandler for Names {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut out: R) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        let answer = request.request_info().ok().and_then(|info| self.known.get(info.query.name()));
        let soa = match answer {
            Some(_) => None,
            None => {
                metadata.response_code = ResponseCode::NXDomain;
                Some(&self.soa)
            }
        };
        let builder = MessageResponseBuilder::from_message_request(request);
        let response = builder.build(metadata, answer, [], soa, []);
        match out.send_response(response).await {
            Ok(info) => info,
            Err(_) => {
                let metadata = Metadata::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
                ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
            }
        }
    }
}
