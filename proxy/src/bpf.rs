//! The connect-time data plane: BPF programs at the sockets of pods.
//!
//! When a pod's process connects to a Service's cluster IP, a program of the kernel puts one of its
//! endpoints in the place of the address, so that no packet has to be translated. It does so for
//! new TCP connections and for each UDP datagram of a socket that is not connected, and only where
//! any endpoint will do. Everything else (refusals, session affinity, traffic policies that leave
//! nothing, NodePorts, external addresses, connected UDP sockets, SCTP) passes on as it is, to
//! nftables, and so does whatever the maps do not have at a moment. So this plane is never needed,
//! only faster.
//!
//! `assembler` and `programs` make the programs; `services` says what they may choose and `maps`
//! brings it into the kernel; `call` is bpf(2), which takes CAP_BPF and CAP_NET_ADMIN outside of
//! user namespaces. The programs hang on the cgroup `coracle-<id>`, above those of the pods. They
//! outlive this process, so that a crash interrupts nobody, and end with the cgroup.

mod assembler;
mod call;
mod cgroup;
mod maps;
mod programs;
mod services;

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use state::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::Error;
use maps::{Maps, Memory};
use programs::{HOOKS, Hook};

/// What the plane needs to know of its node and cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// Six lower-case hex characters; part of the name of the pods' cgroup.
    pub cluster_id: String,
    /// This node's name, for traffic policies of Local and for hints.
    pub node_name: String,
    /// Addresses of Services that this node answers itself, like that of the cluster's DNS.
    pub local: Vec<IpAddr>,
}

/// The plane of one node.
#[derive(Debug)]
pub struct Plane {
    config: Config,
    cgroup: File,
    memory: Memory,
    /// What pods run, or are to run; None after a failure.
    tables: Option<Tables>,
}

/// Programs with the maps that they read.
#[derive(Debug)]
struct Tables {
    maps: Maps,
    programs: Vec<OwnedFd>,
    attached: bool,
}

impl Tables {
    fn new(snapshot: &Arc<Snapshot>, config: &Config, memory: &Memory) -> Result<Self, Error> {
        let maps = Maps::new(snapshot, config)?;
        let load = |hook: &Hook| call::load(hook.name, hook.attach, &hook.program(&maps, memory));
        let programs = HOOKS.iter().map(load).collect::<Result<_, _>>()?;
        Ok(Tables { maps, programs, attached: false })
    }

    /// Each program takes the place of the one before at once, so that none is missing meanwhile.
    fn attach(&mut self, cgroup: &File) -> Result<(), Error> {
        if !self.attached {
            for (hook, program) in HOOKS.iter().zip(&self.programs) {
                call::attach(cgroup, hook.attach, program)?;
            }
        }
        self.attached = true;
        Ok(())
    }
}

impl Plane {
    /// Has the kernel check the programs. Those that are there already (after a crash) go on
    /// working until the first Snapshot replaces them. Blocks for some milliseconds.
    ///
    /// # Errors
    /// [`Error::Bpf`] without the right to it or the hierarchy of cgroups, as in a user namespace.
    pub fn open(config: Config) -> Result<Self, Error> {
        let make = || {
            let cgroup = cgroup::open(&config.cluster_id)?;
            let before = HOOKS.iter().flat_map(|hook| call::attached(&cgroup, hook.attach).unwrap_or_default());
            let memory = Memory::new(before.flat_map(|program| call::maps_of(&program)).collect())?;
            let tables = Tables::new(&Arc::default(), &config, &memory)?;
            Ok((cgroup, memory, Some(tables)))
        };
        let (cgroup, memory, tables) = make().inspect_err(|_| drop(cleanup(&config.cluster_id)))?;
        Ok(Plane { config, cgroup, memory, tables })
    }

    /// Puts a Snapshot into the kernel: the difference to the one before, or, where that does not
    /// fit, all of it in new maps, which take the place of the old ones. Blocks.
    ///
    /// # Errors
    /// [`Error::Bpf`] when the kernel refuses; then pods go by nftables until the next Snapshot.
    pub fn apply(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), Error> {
        let follow = |mut tables: Tables| tables.maps.follow(snapshot, &self.config).map(|()| tables);
        let tables = match self.tables.take().and_then(|tables| follow(tables).ok()) {
            Some(tables) => Ok(tables),
            None => Tables::new(snapshot, &self.config, &self.memory),
        };
        let attached = tables.and_then(|mut tables| tables.attach(&self.cgroup).map(|()| tables));
        match attached {
            Ok(tables) => self.tables = Some(tables),
            Err(error) => return detach(&self.cgroup).and(Err(error)),
        }
        Ok(())
    }

    /// Takes the programs off the pods, and removes their cgroup unless there still are pods. Blocks.
    ///
    /// # Errors
    /// [`Error::Bpf`] when the kernel refuses.
    pub fn remove(self) -> Result<(), Error> {
        cleanup(&self.config.cluster_id)
    }

    /// Follows the Snapshots until `shutdown`, and then removes everything. Failures are logged,
    /// and the next Snapshot is tried anew; only a failed removal is returned.
    ///
    /// # Errors
    /// [`Error::Bpf`] when the kernel refuses.
    pub async fn run(
        mut self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        snapshots.mark_changed();
        while let Some(Ok(())) = shutdown.run_until_cancelled(snapshots.changed()).await {
            let snapshot = snapshots.borrow_and_update().clone();
            if snapshot.synced {
                self = blocking(move || self.follow(&snapshot)).await;
            }
        }
        shutdown.cancelled().await;
        blocking(|| self.remove()).await
    }

    fn follow(mut self, snapshot: &Arc<Snapshot>) -> Self {
        if let Err(error) = self.apply(snapshot) {
            warn!("failed to {error}; pods go to Services by nftables alone");
        }
        self
    }
}

/// Removes what a cluster left: its programs, and the cgroup of its pods unless there still are
/// pods. Does nothing where there is nothing. Blocks.
///
/// # Errors
/// [`Error::Bpf`] when the kernel refuses.
pub fn cleanup(cluster_id: &str) -> Result<(), Error> {
    if let Some(cgroup) = cgroup::existing(cluster_id)? {
        let detached = detach(&cgroup);
        cgroup::leave(cluster_id);
        return detached;
    }
    Ok(())
}

fn detach(cgroup: &File) -> Result<(), Error> {
    HOOKS.iter().try_for_each(|hook| call::detach(cgroup, hook.attach))
}

/// Does something that waits for the kernel without holding up other tasks.
async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(act).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down: nobody waits for this any more.
            Err(_) => std::future::pending().await,
        },
    }
}
