//! Why a Service has not the addresses that it should have, in words for its events.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use state::{Key, Protocol};

use super::taken::Holder;

/// A reason, with all that the words need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The pools are not known: their ConfigMap is wrong, and was when it was first read.
    Pools,
    /// What is asked for is no address, or not one that a Service of these families can have.
    Request(String),
    /// The pool that is asked for does not exist.
    Unknown(Arc<str>),
    /// The address that is asked for is in no pool, or not in the one that is asked for, too.
    Outside(IpAddr, Option<Arc<str>>),
    /// Another Service has the address, and shares it with this one not.
    Used(IpAddr, Key),
    /// Somebody has a port there.
    Port(IpAddr, Protocol, u16, Holder),
    /// These pools have no address left of a family.
    Exhausted(Vec<Arc<str>>, bool),
    /// There is no pool, and the node has no address of that family.
    NoAddress(bool),
}

impl Problem {
    /// True when it may end without a change that this task sees.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Problem::Port(..))
    }

    /// The socket of the program that is in the way.
    pub(crate) fn socket(&self) -> Option<u64> {
        if let Problem::Port(_, _, _, Holder::Program(socket)) = self { Some(*socket) } else { None }
    }

    /// What is wrong and what to do about it; `program` is who has [`Self::socket`].
    pub(crate) fn text(&self, program: Option<&str>) -> String {
        const POOLS: &str = "ConfigMap kube-system/load-balancer-pools";
        match self {
            Problem::Pools => format!("The {POOLS} cannot be read: its events say why"),
            Problem::Request(what) => what.clone(),
            Problem::Unknown(pool) => format!("There is no pool {pool:?}: make it a key of the {POOLS}"),
            Problem::Outside(ip, None) => format!("{ip} was asked for, and is in no pool: add it to the {POOLS}"),
            Problem::Outside(ip, Some(pool)) => {
                format!("{ip} was asked for, and is not in the pool {pool:?}, which was asked for, too")
            }
            Problem::Used(ip, by) => format!(
                "{ip} belongs to the Service {by}: both need the same annotation metallb.io/allow-shared-ip to share it"
            ),
            Problem::Port(ip, protocol, port, by) => {
                let (by, end) = match by {
                    Holder::Service(key) => (format!("the Service {key}"), "choose another port for one of them"),
                    Holder::Pod(key) => (format!("a hostPort of the Pod {key}"), "delete that, choose another port"),
                    Holder::Program(_) => match program {
                        Some(program) => (format!("a program of the node ({program})"), "stop it, choose another port"),
                        None => (
                            "a program of the node".to_owned(),
                            "stop it (sudo ss -lntup names it), choose another port",
                        ),
                    },
                };
                format!(
                    "{protocol} port {port} of {ip} is taken by {by}: {end}, or give this \
                     Service an address of its own by a pool in the {POOLS}"
                )
            }
            Problem::Exhausted(pools, ipv4) => format!(
                "No {} address is free in {}: add some in the {POOLS}, or delete Services",
                Family(*ipv4),
                pools.iter().map(|pool| format!("{pool:?}")).collect::<Vec<_>>().join(", ")
            ),
            Problem::NoAddress(ipv4) => {
                format!("This node has no {0} address: give {0} addresses by a pool in the {POOLS}", Family(*ipv4))
            }
        }
    }
}

/// A family of addresses, by whether it is that of IPv4.
pub(crate) struct Family(pub(crate) bool);

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 { "IPv4" } else { "IPv6" })
    }
}
