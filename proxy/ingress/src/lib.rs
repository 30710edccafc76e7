//! The Ingress controller of Coracle: HTTP from outside to Services, by host and path.
//!
//! A `Table` says for every host and path where requests go and by what policy; it is made from
//! Ingresses, and is plain data. A `Server` answers clients by it, on threads of its own: hyper on
//! both sides, connections to endpoints kept alive and driven inside the task of the request that
//! uses them.

mod affinity;
mod alarm;
mod annotations;
mod auth;
mod body;
mod canary;
mod cors;
mod delivery;
mod failure;
mod forward;
mod gate;
mod grpc;
mod head;
mod hygiene;
mod limit;
mod log;
mod metrics;
mod password;
mod path;
mod patient;
mod peer;
mod policy;
mod pool;
mod recent;
mod record;
mod redirect;
mod rules;
mod send;
mod serve;
mod stream;
mod table;
mod tls;
mod upgrade;
mod upstream;

pub use log::Sink;
pub use metrics::Metrics;
pub use policy::{Canary, Cookie, Cors, Errors, Limits, Policy, Protocol, Redirect, Timeouts, Users};
pub use rules::{CONTROLLERS, Objects, Plan, Remark, plan};
pub use serve::{Bounds, Config, Listener, Server};
pub use table::{Matcher, Path, Route, Rules, Table};
pub use tls::Certificates;
pub use upstream::{Upstream, Upstreams};
