//! The server from outside: clients and endpoints that mean no good, and those that change under load.

mod authority;
mod clients;
mod endpoints;
mod floods;
mod frames;
mod load;
mod message;
mod mixed;
mod second;
mod smuggling;
mod windows;
mod world;
