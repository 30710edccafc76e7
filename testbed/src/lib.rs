//! End-to-end tests, fault injection and benchmarks of Coracle.
