//! The server from outside: clients and endpoints that mean no good, and those that change under load.

mod clients;
mod endpoints;
mod message;
mod smuggling;
mod world;
