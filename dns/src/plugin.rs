//! The plugins, each of which reads its directive of the Corefile and is a link of the chain.

pub(crate) mod acl;
pub(crate) mod any;
pub(crate) mod autopath;
pub(crate) mod bind;
pub(crate) mod cache;
pub(crate) mod errors;
pub(crate) mod forward;
pub(crate) mod header;
pub(crate) mod health;
pub(crate) mod hosts;
pub(crate) mod kubernetes;
pub(crate) mod loadbalance;
pub(crate) mod log;
pub(crate) mod r#loop;
pub(crate) mod minimal;
pub(crate) mod prometheus;
pub(crate) mod ratelimit;
pub(crate) mod ready;
pub(crate) mod reload;
pub(crate) mod rewrite;
pub(crate) mod template;
pub(crate) mod tls;
pub(crate) mod trace;
pub(crate) mod transfer;
pub(crate) mod whoami;
