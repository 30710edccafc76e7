//! The API server of Coracle: the REST of Kubernetes v1.36 over the store.
//!
//! Every request goes one way: `serve` or an in-process [`Service`] → `handle` (path, authentication, authorisation)
//! → one of the verbs in `verb` → `admit` (defaults, hooks of the kind, rules) → the store → watches. What differs
//! between kinds is data in the `schema` crate, or a row of small functions in `hook`.

mod admit;
mod answer;
mod authorise;
mod body;
mod call;
mod config;
mod discovery;
mod handle;
mod health;
mod hook;
mod identity;
mod kubelet;
mod media;
mod meta;
mod object;
mod openapi;
mod owners;
mod path;
mod pki;
mod proxy;
mod query;
mod review;
mod serve;
mod server;
mod status;
mod verb;
mod warning;

pub use body::Body;
pub use config::{Config, Io, Kubelet};
pub use identity::Identity;
pub use meta::Meta;
pub use pki::{Pair, Pki, PkiError, server_names};
pub use server::{ApiServer, Service, parse};
pub use status::{Details, Status};
