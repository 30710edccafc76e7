//! Answers without what was not asked for.

use std::sync::Arc;

use tower::ServiceExt;

use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Directive};
use crate::plugin::log::kind;
use crate::request::{Body, Failure, Reply, Request};

struct Minimal;

/// `minimal`: answers with records have no others along; negative ones and delegations stay whole.
pub(crate) fn setup(_: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    setup.push(Minimal);
    Ok(())
}

impl Plugin for Minimal {
    async fn handle(self: Arc<Self>, request: Request, next: Next) -> Result<Reply, Failure> {
        let mut reply = next.oneshot(request).await?;
        if let Body::Message(message) = &mut reply.body
            && kind(Some(message)) == "NOERROR"
        {
            message.authorities.clear();
            message.additionals.clear();
        }
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::RecordType;

    use super::*;
    use crate::fixture;

    #[tokio::test]
    async fn what_is_left_out() {
        let table = [
            ("", "_http._tcp.web.default.svc.cluster.local.", RecordType::SRV, (1, 0, 1)),
            ("minimal\n", "_http._tcp.web.default.svc.cluster.local.", RecordType::SRV, (1, 0, 0)),
            ("minimal\n", "nope.default.svc.cluster.local.", RecordType::A, (0, 1, 0)),
        ];
        for (text, name, kind, want) in table {
            let text = format!("{text}kubernetes cluster.local");
            let servers = Arc::new(fixture::servers(&text, fixture::cluster().snapshot()));
            let answer = fixture::message(name, kind, &servers).await;
            assert_eq!(
                (answer.answers.len(), answer.authorities.len(), answer.additionals.len()),
                want,
                "{text} {name}"
            );
        }
    }
}
