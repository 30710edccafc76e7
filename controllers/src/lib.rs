//! The controllers and the scheduler of Coracle: they keep Deployments, Services, nodes and namespaces true, through
//! nothing but a [`kube::Client`]. [`run`] starts them all over one set of shared caches.

k8s_openapi::k8s_if_le_1_35! {
    compile_error!("the types of other versions differ: choose the feature v1_36 of k8s-openapi");
}
k8s_openapi::k8s_if_ge_1_37! {
    compile_error!("the types of other versions differ: choose the feature v1_36 of k8s-openapi");
}

mod cache;
mod cluster;
mod config;
mod deployment;
mod diff;
mod disruption;
mod endpoint;
mod endpoint_slice;
mod endpoints;
mod error;
mod events;
mod eviction;
mod garbage;
mod kinds;
mod kubernetes_service;
mod namespace;
mod node_lifecycle;
mod node_range;
mod owner;
mod pod;
mod pod_cleanup;
mod queue;
mod replica_set;
mod run;
mod scheduler;
mod service_account;
mod watch;

pub use config::Config;
pub use error::Error;
pub use namespace::ALWAYS as NAMESPACES;
pub use run::run;
