//! Coracle: a whole Kubernetes cluster in one small binary.
