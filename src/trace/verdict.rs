//! What came of the probe: that it arrived and where, or why not; pure.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use state::Protocol;

use super::{
    Lost,
    path::{End, Path},
    target::{Asker, Target, Via},
};

/// What a probe met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A connection; with what was answered, if something was asked.
    Through(String),
    /// Nobody said anything, which of UDP means nothing.
    Unanswered,
    /// A reset, or an ICMP message that the port is closed.
    Refused,
    /// The connection was made, and broken at once.
    Broken,
    /// Nothing came back in time.
    Silence(Duration),
    /// There is no way, in the kernel's words.
    NoWay(String),
}

/// A probe.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) to: SocketAddr,
    pub(super) outcome: Outcome,
    /// Where the kernel sent it, or why that is not known.
    pub(super) end: Result<Option<SocketAddr>, String>,
    /// A relay in user space took it.
    pub(super) relayed: bool,
    pub(super) took: Duration,
}

/// Where the probe ended: the endpoint that it was sent to, or the only one that there is.
fn end<'a>(path: &'a Path, probe: &Probe) -> Option<&'a End> {
    match &probe.end {
        Ok(Some(end)) => path.ends.iter().find(|known| known.socket == *end),
        _ => path.ends.first().filter(|_| path.ends.len() == 1),
    }
}

/// The sentences of the hop "Probe".
pub(super) fn told(path: &Path, probe: &Probe, protocol: Protocol, who: &str) -> Vec<String> {
    let Probe { to, outcome, took, .. } = probe;
    let ms = took.as_secs_f64() * 1000.0;
    let what = match outcome {
        Outcome::Through(answer) if answer.is_empty() => format!("connected in {ms:.1} ms"),
        Outcome::Through(answer) => format!("{answer}, in {ms:.1} ms"),
        Outcome::Unanswered => "sent; nobody refused it, and nobody answered an empty datagram".into(),
        Outcome::Refused => "refused".into(),
        Outcome::Broken => "accepted, and broken at once".into(),
        Outcome::Silence(patience) => format!("no answer within {} s", patience.as_secs()),
        Outcome::NoWay(error) => error.clone(),
    };
    let mut lines = vec![format!("{protocol} from {who} to {to}: {what}")];
    lines.extend(match (&probe.end, end(path, probe)) {
        _ if probe.relayed && matches!(outcome, Outcome::Through(_)) => {
            Some("a relay in user space passes it on to one of the endpoints above".into())
        }
        (Ok(Some(socket)), Some(end)) => Some(format!("it went to {socket}: {}", end.what)),
        (Ok(Some(socket)), None) if socket != to => {
            Some(format!("it went to {socket}, which is none of the endpoints above"))
        }
        (Err(error), _) => Some(format!("which endpoint it was is not known: {error}")),
        _ => None,
    });
    lines
}

/// Why the probe did not get through; None when it did.
pub(super) fn verdict(path: &Path, target: &Target<'_>, probe: &Probe, asker: &Asker<'_>) -> Option<Lost> {
    match &probe.outcome {
        Outcome::Through(_) => return None,
        Outcome::Unanswered if path.lost.is_none() => {
            let end = end(path, probe)?;
            let why = format!("{}: {}", end.what, end.deaf.as_ref()?);
            return Some(Lost::new("Pod", why, HELP_PORT));
        }
        _ => {}
    }
    if let Some(lost) = &path.lost {
        return Some(lost.clone());
    }
    let end = end(path, probe);
    if let Some(lost) = end.and_then(|end| untranslated(target, end.socket.ip())) {
        return Some(lost);
    }
    let deaf = |end: &End| Some(Lost::new("Pod", format!("{}: {}", end.what, end.deaf.as_ref()?), HELP_PORT));
    if let Some(lost) = end.and_then(deaf) {
        return Some(lost);
    }
    if let (None, Some(first), true) = (end, path.ends.first(), path.ends.iter().all(|end| end.deaf.is_some())) {
        return deaf(first);
    }
    let (to, place) = (probe.to, end.map_or_else(|| probe.to.to_string(), |end| end.what.clone()));
    let lost = |hop, why: String, help: &str| Some(Lost::new(hop, why, help));
    match &probe.outcome {
        Outcome::Refused | Outcome::Broken if target.via == Via::Elsewhere => {
            lost("Address", format!("{to} is no address of a Service, Node or Pod, and what is there refused"), "")
        }
        Outcome::Refused | Outcome::Broken if end.is_some() => lost(
            "Pod",
            format!("{place} refused the connection: no program listens there, or not for others than the pod itself"),
            HELP_PORT,
        ),
        Outcome::Refused | Outcome::Broken => lost(
            "Service",
            format!("{to} refused the connection, although there are endpoints: the rules of this node may be behind"),
            "Try again; if it stays so, look at them: nft list ruleset",
        ),
        Outcome::Silence(_) | Outcome::NoWay(_) if asker.node.is_empty() && target.via != Via::NodePort => lost(
            "Address",
            format!("{to} did not answer this machine: addresses of Services and pods are only inside the cluster"),
            "Ask by a NodePort, or on a machine of the cluster.",
        ),
        Outcome::NoWay(error) => lost(
            "Address",
            format!("there is no way from here to {to} ({error})"),
            "Ask from inside the cluster with --from POD, or by a NodePort.",
        ),
        Outcome::Silence(_) if target.via == Via::Elsewhere => {
            lost("Address", format!("{to} is no address of a Service, Node or Pod, and nothing answered"), "")
        }
        _ => lost(
            "Network",
            format!("{place} did not answer: something drops packets on the way, or the pod's machine is gone"),
            match asker.protocol {
                Protocol::Tcp => "Look for another firewall on the nodes (nft list ruleset) and at kubectl get nodes.",
                _ => "Look at kubectl get nodes.",
            },
        ),
    }
}

const HELP_PORT: &str = "Correct targetPort in the Service, or the address and port that the program listens on.";

/// A client of a headless Service reaches the port that it asks for, not the one that the Service leads to.
fn untranslated(target: &Target<'_>, address: IpAddr) -> Option<Lost> {
    let backends = target.service?.backends(target.port?);
    let own = backends.iter().find(|backend| backend.address == address)?.port;
    (target.via == Via::Headless && target.to?.port() != own).then(|| {
        let why = format!("the Service is headless, so nothing translates its port; its pods have port {own}");
        Lost::new("Port", why, format!("Ask for port {own}."))
    })
}
