//! The controller of Ingresses: hears of them, has `ingress` make a Table and serve it, and tells the API server.

mod certificates;
mod controller;
mod door;
mod journal;
mod publish;
mod watches;

pub use controller::{Place, run};
pub use ingress::CONTROLLERS;
