//! Policies carried out, over loopback.

mod early;
mod sending;
mod upgrades;
mod world;
