//! The cluster DNS of Coracle.
