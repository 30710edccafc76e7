//! The API server in the process, driven by the `kube` crate and by raw requests.

mod apply;
mod documents;
mod hostile;
mod kubelet;
mod list;
mod media;
mod namespaces;
mod patches;
mod raw;
mod serve;
mod services;
mod support;
mod verbs;
mod watch;
