//! Short answers to questions for everything (RFC 8482).

use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::HINFO;
use hickory_proto::rr::{RData, Record, RecordType};
use tower::ServiceExt;

use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Directive};
use crate::request::{Failure, Reply, Request, Sections};

const NAME: &str = "any";

/// The seconds that the answer may be kept, as CoreDNS says.
const TTL: u32 = 8482;

struct Any;

/// `any`: questions of the type ANY get one HINFO record (RFC 8482 §4.2).
pub(crate) fn setup(_: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    setup.push(Any);
    Ok(())
}

impl Plugin for Any {
    async fn handle(self: Arc<Self>, request: Request, next: Next) -> Result<Reply, Failure> {
        if request.kind() != RecordType::ANY {
            return next.oneshot(request).await;
        }
        let data = RData::HINFO(HINFO::new("ANY obsoleted".into(), "See RFC 8482".into()));
        let answers = vec![Record::from_rdata(request.name().clone(), TTL, data)];
        let sections = Sections { answers, ..Default::default() };
        Ok(Reply::message(NAME, request.reply(ResponseCode::NoError, false, sections)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[tokio::test]
    async fn everything_is_little() {
        let table = [
            (RecordType::ANY, "web.default.svc.cluster.local. 8482 IN HINFO ANY obsoleted See RFC 8482"),
            (RecordType::A, "web.default.svc.cluster.local. 5 IN A 10.96.0.20"),
        ];
        let servers = Arc::new(fixture::servers("any\nkubernetes cluster.local", fixture::cluster().snapshot()));
        for (kind, want) in table {
            let name = "web.default.svc.cluster.local.";
            assert_eq!(fixture::answers(name, kind, &servers).await, [want], "{kind}");
        }
    }
}
