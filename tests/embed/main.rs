//! A cluster in the test's own process, as users of kube-rs have it.

mod life;
