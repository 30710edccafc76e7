//! The plugins, each of which reads its directive of the Corefile and is a link of the chain.

pub(crate) mod forward;
pub(crate) mod kubernetes;
pub(crate) mod log;
