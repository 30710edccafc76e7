//! What end-to-end tests and benchmarks share: namespaces for each test, a cluster in them, and
//! the programs that people use with it.
//!
//! A test begins with [`inside`], which runs it again in network, mount and pid namespaces of its
//! own, so that tests do not meet each other or the machine, and nothing of them can stay.

mod following;
mod images;
mod lab;
mod namespaces;
mod packages;
mod stream;
mod tools;
mod traces;

pub use following::Following;
pub use images::{Registry, busybox, nginx, nginx_layout, programs, registry};
pub use lab::{Lab, Options};
pub use namespaces::{NODE, OUTSIDE, hand_over, inside, need_root, ordinary, outside, unshare, uplink};
pub use packages::{packages, python};
pub use stream::Stream;
pub use tools::{kubectls, need, run, text, wait};
pub use traces::{Traces, processes};
