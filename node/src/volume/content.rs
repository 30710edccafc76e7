//! Volumes whose files come from the API: configMap, secret, downwardAPI and projected. They are
//! written as Kubernetes does it: into a dated directory, with `..data` pointing at it and a link
//! through `..data` for each file, so that a change appears all at once.

use crate::pod::{Sources, field, resource};
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, Volume};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Component, Path, PathBuf},
};

/// A file of such a volume.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Content {
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
}

type Files = BTreeMap<String, Content>;

/// The files of a volume by path; `None` when it is of another type.
pub(crate) fn files(pod: &Pod, volume: &Volume, from: &Sources) -> Result<Option<Files>, String> {
    let mut files = Files::new();
    if let Some(map) = &volume.config_map {
        let entries = from.config_map(&map.name, map.optional.unwrap_or(false))?;
        let source = (entries, map.items.as_deref(), map.optional);
        select(&mut files, source, mode(map.default_mode))?;
    } else if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        let entries = from.secret(name, secret.optional.unwrap_or(false))?;
        let source = (entries, secret.items.as_deref(), secret.optional);
        select(&mut files, source, mode(secret.default_mode))?;
    } else if let Some(api) = &volume.downward_api {
        downward(&mut files, pod, api.items.as_deref(), from, mode(api.default_mode))?;
    } else if let Some(projected) = &volume.projected {
        let mode = mode(projected.default_mode);
        for source in projected.sources.iter().flatten() {
            if let Some(map) = &source.config_map {
                let entries = from.config_map(&map.name, map.optional.unwrap_or(false))?;
                select(&mut files, (entries, map.items.as_deref(), map.optional), mode)?;
            } else if let Some(secret) = &source.secret {
                let entries = from.secret(&secret.name, secret.optional.unwrap_or(false))?;
                let source = (entries, secret.items.as_deref(), secret.optional);
                select(&mut files, source, mode)?;
            } else if let Some(api) = &source.downward_api {
                downward(&mut files, pod, api.items.as_deref(), from, mode)?;
            } else if let Some(token) = &source.service_account_token {
                let audience = token.audience.as_deref().unwrap_or_default();
                let data = from.tokens.get(audience).cloned();
                let data = data.ok_or("failed to fetch token of the pod's service account")?;
                put(&mut files, &token.path, data.into_bytes(), mode)?;
            } else {
                return Err("a source of the projected volume is not supported on this node".into());
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

fn mode(given: Option<i32>) -> u32 {
    given.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644) & 0o777
}

type Source<'a> = (Vec<(String, Vec<u8>)>, Option<&'a [KeyToPath]>, Option<bool>);

/// All entries, or those that `items` names.
fn select(files: &mut Files, source: Source, default: u32) -> Result<(), String> {
    let (entries, items, optional) = source;
    let Some(items) = items else {
        for (key, data) in entries {
            put(files, &key, data, default)?;
        }
        return Ok(());
    };
    for item in items {
        match entries.iter().find(|(key, _)| *key == item.key) {
            Some((_, data)) => {
                let own = item.mode.map_or(default, |own| mode(Some(own)));
                put(files, &item.path, data.clone(), own)?;
            }
            None if optional == Some(true) => {}
            None => return Err(format!("references non-existent config key: {}", item.key)),
        }
    }
    Ok(())
}

fn downward(
    files: &mut Files,
    pod: &Pod,
    items: Option<&[DownwardAPIVolumeFile]>,
    from: &Sources,
    default: u32,
) -> Result<(), String> {
    for item in items.unwrap_or_default() {
        let text = if let Some(reference) = &item.field_ref {
            field(pod, &reference.field_path, &from.addresses)?
        } else if let Some(reference) = &item.resource_field_ref {
            let name = reference.container_name.as_deref().unwrap_or_default();
            let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let container = containers.find(|container| container.name == name);
            let container = container.ok_or_else(|| format!("no container {name:?}"))?;
            resource(container, reference, from.capacity)?
        } else {
            String::new()
        };
        let own = item.mode.map_or(default, |own| mode(Some(own)));
        put(files, &item.path, text.into_bytes(), own)?;
    }
    Ok(())
}

fn put(files: &mut Files, path: &str, data: Vec<u8>, mode: u32) -> Result<(), String> {
    let plain = |part: Component| matches!(part, Component::Normal(_));
    if path.is_empty() || path.starts_with("..") || !Path::new(path).components().all(plain) {
        return Err(format!("invalid path {path:?}: must be relative and not contain '..'"));
    }
    files.insert(path.to_owned(), Content { data, mode });
    Ok(())
}

/// Writes the files into a volume's directory, if they are not the ones there.
pub(super) fn write(dir: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let current = fs::read_link(dir.join("..data")).ok();
    if current.as_ref().is_some_and(|current| same(&dir.join(current), files)) {
        return Ok(());
    }
    let number = current.as_ref().and_then(|current| {
        let digits = current.to_str()?.strip_prefix("..v")?;
        digits.parse::<u64>().ok()
    });
    let name = format!("..v{}", number.unwrap_or(0) + 1);
    let new = dir.join(&name);
    let _ = fs::remove_dir_all(&new);
    fs::create_dir(&new)?;
    for (path, content) in files {
        let path = new.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &content.data)?;
        let mode = content.mode | if group.is_some() { 0o440 } else { 0 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        if group.is_some() {
            chown(&path, None, group)?;
        }
    }
    let link = dir.join("..data_tmp");
    let _ = fs::remove_file(&link);
    symlink(&name, &link)?;
    fs::rename(&link, dir.join("..data"))?;
    relink(dir, files)?;
    match current {
        Some(old) => fs::remove_dir_all(dir.join(old)),
        None => Ok(()),
    }
}

/// Makes the links of the first path components, and removes those of files that went.
fn relink(dir: &Path, files: &Files) -> io::Result<()> {
    let tops = files.keys().filter_map(|path| path.split('/').next());
    let tops: std::collections::BTreeSet<_> = tops.collect();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !tops.contains(name.as_ref()) {
            fs::remove_file(dir.join(name.as_ref()))?;
        }
    }
    for top in tops {
        let link = dir.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(PathBuf::from("..data").join(top), link)?;
        }
    }
    Ok(())
}

fn same(dir: &Path, files: &Files) -> bool {
    fn count(dir: &Path) -> usize {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let each = entries.map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => count(&entry.path()),
            _ => 1,
        });
        each.sum()
    }
    let equal = |(path, content): (&String, &Content)| fs::read(dir.join(path)).is_ok_and(|data| data == content.data);
    count(dir) == files.len() && files.iter().all(equal)
}
