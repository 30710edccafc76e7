//! The API server of Coracle.
