//! What can be asked of objects, one verb in one file.

mod create;
mod delete;
mod get;
mod list;
mod modify;
mod options;
mod patch;
mod scale;
mod selection;
mod update;
mod watch;
mod write;

pub(crate) use create::create;
pub(crate) use delete::{Options as DeleteOptions, delete, deletecollection, pod_grace, remove};
pub(crate) use get::get;
pub(crate) use list::list;
pub(crate) use modify::{Part, modify};
pub(crate) use patch::patch;
pub(crate) use scale::scale;
pub(crate) use update::update;
pub(crate) use watch::watch;
