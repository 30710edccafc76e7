//! The pod's own namespaces, made once when the shim comes up.

use crate::{
    kernel::{NODEV, NOSUID, failed, loopback_up},
    rootfs::{SHM, instance},
    spec::Sandbox,
};
use rustix::{
    fd::AsFd,
    fs::CWD,
    mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount},
    thread::{UnshareFlags, unshare_unsafe},
};
use std::{fs, io, path::Path};

/// Size of the shared memory of a pod, as Docker and containerd have it.
const SHM_SIZE: u64 = 64 << 20;
/// Lets a container's user bind ports below 1024, as containerd does.
const PORTS: &str = "net.ipv4.ip_unprivileged_port_start";

/// Moves this process into the pod's namespaces and fills them.
pub(crate) fn enter(sandbox: &Sandbox) -> Result<(), String> {
    let mut flags = UnshareFlags::NEWNS;
    if !sandbox.host_network {
        flags |= UnshareFlags::NEWNET | UnshareFlags::NEWUTS;
    }
    if !sandbox.host_ipc {
        flags |= UnshareFlags::NEWIPC;
    }
    // SAFETY: the process has one thread and no descriptors or file system state to lose.
    unsafe { unshare_unsafe(flags) }.map_err(failed("make the pod's namespaces"))?;
    // What the host unmounts goes away here too; what is mounted here never reaches the host.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(failed("separate the pod's mounts"))?;
    if !sandbox.host_network {
        rustix::system::sethostname(sandbox.hostname.as_bytes())
            .map_err(failed(format!("set hostname {:?}", sandbox.hostname)))?;
        loopback_up().map_err(failed("set up the loopback interface"))?;
        if !sandbox.sysctls.contains_key(PORTS) {
            // Where /proc/sys is read-only, low ports need CAP_NET_BIND_SERVICE; no more is lost.
            let _ = sysctl(PORTS, "0");
        }
    }
    for (name, value) in &sandbox.sysctls {
        sysctl(name, value).map_err(failed(format!("set sysctl {name} to {value:?}")))?;
    }
    let shm = sandbox.dir.join(SHM);
    fs::create_dir_all(&shm).map_err(failed("make the shared memory"))?;
    tmpfs(&shm, Some(SHM_SIZE), "1777").map_err(failed("mount the shared memory"))?;
    for memory in &sandbox.tmpfs {
        tmpfs(&memory.path, memory.size, "1777")
            .map_err(failed(format!("mount tmpfs at {}", memory.path.display())))?;
    }
    Ok(())
}

/// Writes a kernel setting; `name` has dots or slashes.
fn sysctl(name: &str, value: &str) -> io::Result<()> {
    let name = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    if name.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    fs::write(Path::new("/proc/sys").join(name), value)
}

fn tmpfs(path: &Path, size: Option<u64>, mode: &str) -> io::Result<()> {
    let size = size.map(|size| size.to_string());
    let mut options = vec![("mode", mode)];
    options.extend(size.iter().map(|size| ("size", size.as_str())));
    let tree = instance("tmpfs", &options, NOSUID | NODEV)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(tree.as_fd(), "", CWD, path, flags)?)
}
