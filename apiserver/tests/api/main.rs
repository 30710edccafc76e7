//! The API server in the process, driven by the `kube` crate and by raw requests.

mod support;
mod verbs;
