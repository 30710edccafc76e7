//! Questions that are not ours, sent on to other resolvers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::Message;
use tokio::sync::Semaphore;

use crate::chain::{Next, Plugin, Setup};
use crate::config::{resolvers, without_loops};
use crate::corefile::{self, Directive};
use crate::forward::Upstreams;
use crate::request::{Failure, Reply, Request, Transport};

const NAME: &str = "forward";

/// How many questions may be waiting for other resolvers; more get SERVFAIL at once. Each has a
/// socket, and a process may often have no more than 1024 files open.
const WAITING: usize = 256;

struct Forward {
    upstreams: Upstreams,
    waiting: Semaphore,
}

/// `forward FROM TO...`: each TO is an address, or a file like resolv.conf(5).
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    let mut addresses = Vec::new();
    for word in directive.arguments.iter().skip(1) {
        if let Ok(address) = word.text.parse() {
            addresses.push(address);
        } else if let Ok(address) = word.text.parse::<IpAddr>() {
            addresses.push(SocketAddr::new(address, 53));
        } else {
            let text = std::fs::read_to_string(&word.text).map_err(|e| word.error(format!("{}: {e}", word.text)))?;
            addresses.extend(resolvers(&text));
        }
    }
    let upstreams = Upstreams::new(without_loops(&addresses, &setup.environment.addresses));
    setup.push(Forward { upstreams, waiting: Semaphore::new(WAITING) });
    Ok(())
}

impl Plugin for Forward {
    async fn handle(self: Arc<Self>, request: Request, _: Next) -> Result<Reply, Failure> {
        let Ok(_permit) = self.waiting.try_acquire() else {
            return Err(Failure::server("too many questions wait for other resolvers"));
        };
        let packet = request.question().to_vec().map_err(|error| Failure::server(error.to_string()))?;
        let parse = |bytes: Vec<u8>| Message::from_vec(&bytes).ok();
        let mut answer = self.upstreams.ask(&packet, request.context.transport).await.and_then(parse);
        if answer.as_ref().is_some_and(|answer| answer.metadata.truncation) {
            answer = self.upstreams.ask(&packet, Transport::Tcp).await.and_then(parse);
        }
        match answer {
            Some(answer) => Ok(Reply::message(NAME, answer)),
            None => Err(Failure::server("no resolver answered")),
        }
    }
}
