//! The process beside each pod that owns its containers.
