use crate::{Backend, Loaded, Op, OpenError, Snapshots};

/// Keeps nothing: a store that is gone with its process, as tests and in-process clusters want it.
#[derive(Debug, Default)]
pub struct Memory;

impl Backend for Memory {
    fn load(&mut self) -> Result<Loaded, OpenError> {
        Ok(Loaded::default())
    }

    fn commit(&mut self, _revision: u64, _ops: &[Op]) -> Result<(), String> {
        Ok(())
    }

    fn snapshots(&self) -> Option<Snapshots> {
        None
    }
}
