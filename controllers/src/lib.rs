//! The controllers and the scheduler of Coracle.
