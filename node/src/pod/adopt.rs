//! Taking over pods that a former agent left running, and removing those that nobody wants.

use super::hear::Event;
use super::{Record, Worker, end::remove_dir, record::Run, start::Came};
use crate::pods::Pods;
use std::{path::Path, sync::Arc};

impl Worker {
    /// Connects to the pod's shim, if there is one, and compares the record with what runs.
    pub(super) async fn adopt(&mut self) {
        if !self.record.sandbox && !self.dir.join("shim.sock").exists() {
            return;
        }
        let states = match shim::Client::connect(&self.dir).await {
            Ok(shim) => {
                let states = shim.states().await.unwrap_or_default();
                self.enter(shim);
                states
            }
            Err(error) => {
                tracing::info!(pod = self.record.name, %error, "the pod's sandbox is gone");
                for state in shim::last_states(&self.dir).unwrap_or_default() {
                    self.hear(Event::Exit(state));
                }
                self.early.clear();
                return self.interrupted();
            }
        };
        let names: Vec<String> = self.record.slots.keys().cloned().collect();
        let now = jiff::Timestamp::now();
        for name in names {
            let Some(slot) = self.record.slots.get_mut(&name) else { continue };
            let attempt = slot.attempt(&name);
            let known = states.iter().find(|state| state.name == attempt);
            match (&slot.run, known) {
                (Run::Running { .. }, Some(state)) if state.exit.is_none() => {
                    self.begin_probes(&name);
                }
                // Its end is heard of again.
                (Run::Running { .. }, Some(_)) => {}
                (Run::Running { .. }, None) => slot.interrupt(now),
                _ => {}
            }
        }
        // Starts of which the former agent did not live to take note.
        for state in states {
            let Some((name, number)) = state.name.rsplit_once('.') else { continue };
            let name = name.to_owned();
            let starts = self.record.slots.get(&name).map_or(0, |slot| slot.starts);
            if number.parse() == Ok(starts) {
                let image = self.container(&name).and_then(|(_, container)| {
                    let given = container.image.as_deref()?;
                    let image = self.pods.images.resolve(given).ok().flatten()?;
                    let id = image.image_id();
                    Some((image.reference, id))
                });
                self.came(&name, image, Ok(Came::Running(state, None)));
            }
        }
    }
}

/// Ends and removes a pod that is not wanted any more.
pub(crate) async fn discard(pods: &Arc<Pods>, dir: &Path, record: Option<&Record>) {
    match shim::Client::connect(dir).await {
        Ok(shim) => {
            if let Err(error) = shim.shutdown().await {
                tracing::warn!(dir = %dir.display(), %error, "failed to end a pod's shim");
            }
        }
        // It has nothing to clear when the pod never had a sandbox.
        Err(_) => drop(shim::clear(dir)),
    }
    if let Some(address) = record.and_then(Record::held) {
        if let Err(error) = pods.links.remove(address).await {
            tracing::warn!("failed to {error}");
        }
        pods.addresses().free(address);
    }
    remove_dir(dir);
}
