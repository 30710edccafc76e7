//! A pod's volumes as directories and files on this node.

mod content;

pub(crate) use content::files;

use crate::pod::Sources;
use k8s_openapi::api::core::v1::{Container, HostPathVolumeSource, Pod, PodSpec, Volume, VolumeMount};
use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
    path::{Component, Path, PathBuf},
};

/// A volume that could not be made. The text follows `MountVolume.SetUp failed for volume "x" : `.
#[derive(Debug, PartialEq)]
pub(crate) struct Failed {
    pub(crate) volume: String,
    pub(crate) reason: String,
}

/// The directory or file of a volume.
pub(crate) fn place(dir: &Path, volume: &Volume) -> PathBuf {
    match &volume.host_path {
        Some(host) => PathBuf::from(&host.path),
        None => dir.join("volumes").join(&volume.name),
    }
}

/// Makes all volumes of a pod below its directory; what is there already is brought up to date.
pub(crate) fn make(dir: &Path, pod: &Pod, sources: &Sources) -> Result<(), Failed> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    for volume in spec.volumes.iter().flatten() {
        make_one(dir, pod, spec, volume, sources).map_err(|reason| Failed { volume: volume.name.clone(), reason })?;
    }
    Ok(())
}

fn make_one(dir: &Path, pod: &Pod, spec: &PodSpec, volume: &Volume, sources: &Sources) -> Result<(), String> {
    let place = place(dir, volume);
    let failed = |error: io::Error| format!("{}: {error}", place.display());
    let group = spec.security_context.as_ref().and_then(|c| c.fs_group);
    let group = group.and_then(|group| u32::try_from(group).ok());
    if let Some(host) = &volume.host_path {
        return check_host(host);
    }
    if volume.empty_dir.is_some() {
        if !place.exists() {
            fs::create_dir_all(&place).map_err(failed)?;
            open_to_all(&place, group).map_err(failed)?;
        }
        return Ok(());
    }
    let Some(files) = files(pod, volume, sources)? else {
        return Err(format!("volumes of type {} are not supported on this node", kind(volume)));
    };
    content::write(&place, &files, group).map_err(failed)
}

/// The memory file systems of a pod with their sizes: mounted by its shim.
pub(crate) fn tmpfs(dir: &Path, spec: &PodSpec) -> Vec<shim::Tmpfs> {
    let volumes = spec.volumes.iter().flatten();
    volumes
        .filter_map(|volume| {
            let empty = volume.empty_dir.as_ref()?;
            (empty.medium.as_deref() == Some("Memory")).then(|| shim::Tmpfs {
                path: place(dir, volume),
                size: empty.size_limit.as_ref().and_then(crate::quantity::units),
            })
        })
        .collect()
}

fn open_to_all(path: &Path, group: Option<u32>) -> io::Result<()> {
    if let Some(group) = group {
        chown(path, None, Some(group))?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Checks or makes a hostPath as its type says.
fn check_host(host: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&host.path);
    let type_ = host.type_.as_deref().unwrap_or_default();
    let made = match type_ {
        "DirectoryOrCreate" => fs::create_dir_all(path),
        "FileOrCreate" if !path.exists() => fs::File::create(path).map(drop),
        _ => Ok(()),
    };
    made.map_err(|error| format!("{}: {error}", path.display()))?;
    let is = |wanted: fn(&fs::FileType) -> bool| fs::metadata(path).is_ok_and(|metadata| wanted(&metadata.file_type()));
    let (fine, what) = match type_ {
        "" => (path.exists(), "a path"),
        "Directory" | "DirectoryOrCreate" => (is(fs::FileType::is_dir), "a directory"),
        "File" | "FileOrCreate" => (is(fs::FileType::is_file), "a file"),
        "Socket" => (is(fs::FileType::is_socket), "a socket"),
        "CharDevice" => (is(fs::FileType::is_char_device), "a character device"),
        "BlockDevice" => (is(fs::FileType::is_block_device), "a block device"),
        other => return Err(format!("unknown hostPath type {other:?}")),
    };
    if fine { Ok(()) } else { Err(format!("hostPath type check failed: {} is not {what}", host.path)) }
}

/// The name of a volume's type: the field that is set beside its name.
fn kind(volume: &Volume) -> String {
    let value = serde_json::to_value(volume).unwrap_or_default();
    let fields = value.as_object().into_iter().flatten();
    let mut names = fields.map(|(name, _)| name.clone()).filter(|name| name != "name");
    names.next().unwrap_or_else(|| "unknown".into())
}

/// Where a container's mounts come from. `expand` replaces `$(NAME)` in subPathExpr.
///
/// # Errors
/// A text for the reason CreateContainerConfigError.
pub(crate) fn mounts(
    dir: &Path,
    spec: &PodSpec,
    container: &Container,
    expand: impl Fn(&str) -> String,
) -> Result<Vec<shim::Mount>, String> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let mut volumes = spec.volumes.iter().flatten();
        let volume = volumes.find(|volume| volume.name == mount.name);
        let volume = volume.ok_or_else(|| {
            format!("cannot find volume {:?} to mount into container {:?}", mount.name, container.name)
        })?;
        let written = volume.empty_dir.is_some() || volume.host_path.is_some();
        let source = within(place(dir, volume), mount, volume, &expand)?;
        mounts.push(shim::Mount {
            source,
            target: PathBuf::from(&mount.mount_path),
            read_only: mount.read_only.unwrap_or(false) || !written,
        });
    }
    Ok(mounts)
}

/// The path of a mount's subPath, which never leaves the volume.
fn within(
    root: PathBuf,
    mount: &VolumeMount,
    volume: &Volume,
    expand: impl Fn(&str) -> String,
) -> Result<PathBuf, String> {
    let sub = match (&mount.sub_path_expr, &mount.sub_path) {
        (Some(expression), _) if !expression.is_empty() => expand(expression),
        (_, Some(sub)) => sub.clone(),
        _ => String::new(),
    };
    if sub.is_empty() {
        return Ok(root);
    }
    let plain = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
    if !Path::new(&sub).components().all(plain) {
        return Err(format!("subPath {sub:?} must be relative and not contain '..'"));
    }
    let path = root.join(&sub);
    let failed = |error: io::Error| format!("failed to prepare subPath for volumeMount {:?}: {error}", mount.name);
    if !path.exists() && (volume.empty_dir.is_some() || volume.host_path.is_some()) {
        fs::create_dir_all(&path).map_err(failed)?;
        if let Ok(metadata) = fs::metadata(&root) {
            let mode = fs::Permissions::from_mode(metadata.mode() & 0o7777);
            fs::set_permissions(&path, mode).map_err(failed)?;
        }
    }
    let (root, path) = (fs::canonicalize(&root).map_err(failed)?, fs::canonicalize(&path).map_err(failed)?);
    if path.starts_with(&root) { Ok(path) } else { Err(format!("subPath {sub:?} leaves the volume")) }
}

#[cfg(test)]
mod tests;
