//! The Service data plane of Coracle.
