//! Policies carried out, over loopback.

mod early;
mod records;
mod sending;
mod upgrades;
mod world;
