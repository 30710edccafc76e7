//! What is watched: Ingresses always, IngressClasses once there is an Ingress, and the Secrets that Ingresses name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{AbortHandle, BoxStream, SelectAll, StreamExt as _, abortable};
use ingress::Objects;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::api::ApiResource;
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher as watch};
use kube::{Api, Client};
use state::Key;

/// How many Secrets are watched at most; further ones count as missing.
const SECRETS: usize = 4096;
/// The annotation that names the Secret with users and their passwords.
const AUTH_SECRET: &str = "nginx.ingress.kubernetes.io/auth-secret";

/// The watches, and how far they are.
pub(crate) struct Watches {
    client: Client,
    streams: SelectAll<BoxStream<'static, (Watched, watcher::Result<Event<DynamicObject>>)>>,
    /// What unfinished lists have brought.
    listing: BTreeMap<Watched, Vec<DynamicObject>>,
    /// What was listed at least once.
    known: BTreeSet<Watched>,
    /// What has a watch.
    started: BTreeMap<Watched, AbortHandle>,
}

/// What one watch is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Watched {
    Ingresses,
    Classes,
    Secret(Key),
}

impl Watches {
    /// A watch of Ingresses.
    pub(crate) fn new(client: Client) -> Self {
        let (streams, listing, known, started) = Default::default();
        let mut watches = Watches { client, streams, listing, known, started };
        watches.start(Watched::Ingresses);
        watches
    }

    /// Watches a kind. All are read as one type, so that the program has one watcher and not three.
    fn start(&mut self, what: Watched) {
        if self.started.contains_key(&what) {
            return;
        }
        let client = self.client.clone();
        let (api, config): (Api<DynamicObject>, _) = match &what {
            Watched::Ingresses => {
                (Api::all_with(client, &ApiResource::erase::<Ingress>(&())), watcher::Config::default())
            }
            Watched::Classes => {
                (Api::all_with(client, &ApiResource::erase::<IngressClass>(&())), watcher::Config::default())
            }
            Watched::Secret(key) => (
                Api::namespaced_with(client, &key.namespace, &ApiResource::erase::<Secret>(&())),
                watcher::Config::default().fields(&format!("metadata.name={}", key.name)),
            ),
        };
        let named = what.clone();
        let events = watch(api, config).default_backoff().map(move |event| (named.clone(), event));
        let (events, handle) = abortable(events);
        self.streams.push(events.boxed());
        self.started.insert(what, handle);
    }

    /// Watches exactly these Secrets; true when all of them are known.
    pub(crate) fn secrets(&mut self, wanted: BTreeSet<Key>, objects: &mut Objects) -> bool {
        let wanted: BTreeSet<_> = wanted.into_iter().take(SECRETS).map(Watched::Secret).collect();
        let unwanted = |what: &Watched| matches!(what, Watched::Secret(_)) && !wanted.contains(what);
        for (what, handle) in self.started.extract_if(.., |what, _| unwanted(what)) {
            handle.abort();
            self.known.remove(&what);
            self.listing.remove(&what);
            if let Watched::Secret(key) = what {
                objects.secrets.remove(&key);
            }
        }
        let known = wanted.is_subset(&self.known);
        wanted.into_iter().for_each(|what| self.start(what));
        known
    }

    /// True when something may be concluded from an Ingress or a class that is absent.
    pub(crate) fn synced(&self) -> bool {
        self.started.keys().all(|what| matches!(what, Watched::Secret(_)) || self.known.contains(what))
    }

    /// Waits for news and folds them into the `objects`; true when they count for the Table.
    pub(crate) async fn next(&mut self, objects: &mut Objects) -> bool {
        let changed = match self.streams.next().await {
            // What was aborted may have had something to say.
            Some((what, _)) if !self.started.contains_key(&what) => false,
            Some((what, Ok(event))) => self.hear(what, event, objects),
            Some((what, Err(error))) => {
                tracing::warn!("watch of {what:?}: {error}");
                false
            }
            // That of Ingresses never ends.
            None => std::future::pending().await,
        };
        if !objects.ingresses.is_empty() {
            self.start(Watched::Classes);
        }
        changed
    }

    fn hear(&mut self, what: Watched, event: Event<DynamicObject>, objects: &mut Objects) -> bool {
        match event {
            Event::Init => {
                self.listing.insert(what, Vec::new());
                false
            }
            Event::InitApply(object) => {
                self.listing.entry(what).or_default().push(object);
                false
            }
            Event::InitDone => {
                let listed = self.listing.remove(&what).unwrap_or_default();
                let changed = reset(&what, listed, objects);
                self.known.insert(what) || changed
            }
            Event::Apply(object) => put(&what, object, objects),
            Event::Delete(object) => delete(&what, &key(&object), objects),
        }
    }
}

fn key(object: &DynamicObject) -> Key {
    let metadata = &object.metadata;
    Key::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// Replaces all that is of a kind; true when it differs.
fn reset(what: &Watched, listed: Vec<DynamicObject>, objects: &mut Objects) -> bool {
    let there: BTreeSet<_> = listed.iter().map(key).collect();
    let gone: Vec<Key> = match what {
        Watched::Ingresses => objects.ingresses.keys().filter(|key| !there.contains(key)).cloned().collect(),
        Watched::Classes => {
            let classes = objects.classes.keys().map(|name| Key::new("", name.as_str()));
            classes.filter(|key| !there.contains(key)).collect()
        }
        Watched::Secret(key) => if there.is_empty() { Some(key.clone()) } else { None }.into_iter().collect(),
    };
    let mut changed = false;
    for key in gone {
        changed |= delete(what, &key, objects);
    }
    for object in listed {
        changed |= put(what, object, objects);
    }
    changed
}

/// Takes in an object; true when it says something else than before. What cannot be read counts as it was.
fn put(what: &Watched, object: DynamicObject, objects: &mut Objects) -> bool {
    let key = key(&object);
    let read = match what {
        Watched::Ingresses => object.try_parse::<Ingress>().map(|new| {
            let same = objects.ingresses.get(&key).is_some_and(|old| same(old, &new));
            objects.ingresses.insert(key.clone(), Arc::new(new));
            !same
        }),
        Watched::Classes => object.try_parse::<IngressClass>().map(|new| {
            let old = objects.classes.insert(key.name.to_string(), Arc::new(new));
            objects.classes.get(&*key.name) != old.as_ref()
        }),
        Watched::Secret(_) => object.try_parse::<Secret>().map(|new| {
            let same = objects.secrets.get(&key).is_some_and(|old| old.data == new.data);
            if !same {
                objects.secrets.insert(key.clone(), Arc::new(new));
            }
            !same
        }),
    };
    read.unwrap_or_else(|error| {
        tracing::warn!("{what:?} {key}: {error}");
        false
    })
}

fn delete(what: &Watched, key: &Key, objects: &mut Objects) -> bool {
    match what {
        Watched::Ingresses => objects.ingresses.remove(key).is_some(),
        Watched::Classes => objects.classes.remove(&*key.name).is_some(),
        Watched::Secret(_) => objects.secrets.remove(key).is_some(),
    }
}

/// True when two versions of an Ingress ask for the same: all but their statuses.
pub(crate) fn same(old: &Ingress, new: &Ingress) -> bool {
    let (old_meta, new_meta) = (&old.metadata, &new.metadata);
    old_meta.uid == new_meta.uid
        && old_meta.annotations == new_meta.annotations
        && old_meta.deletion_timestamp == new_meta.deletion_timestamp
        && old.spec == new.spec
}

/// The Secrets that an Ingress names. What is no name of one counts as missing: a watch of it would be refused for ever,
/// and every Ingress would wait for what it lists.
pub(crate) fn secrets(ingress: &Ingress) -> impl Iterator<Item = Key> {
    let namespace: Arc<str> = ingress.metadata.namespace.as_deref().unwrap_or_default().into();
    let tls = ingress.spec.iter().filter_map(|spec| spec.tls.as_ref()).flatten();
    let certificates = tls.filter_map(|entry| entry.secret_name.as_deref());
    let own = move |name: &'_ str| {
        let (other, name) = name.trim().split_once('/').unwrap_or((&namespace, name.trim()));
        let named = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        // Those of other namespaces are of no use to it.
        let fits = *other == *namespace && !name.is_empty() && name.bytes().all(named);
        fits.then(|| Key::new(namespace.clone(), name))
    };
    let users = ingress.metadata.annotations.as_ref().and_then(|all| all.get(AUTH_SECRET)).map(String::as_str);
    certificates.chain(users).filter_map(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_that_ingresses_name() {
        let named = |name: &str| {
            let mut ingress = Ingress::default();
            ingress.metadata.namespace = Some("default".into());
            ingress.metadata.annotations = Some([(AUTH_SECRET.to_owned(), name.to_owned())].into());
            secrets(&ingress).map(|key| key.to_string()).collect::<Vec<_>>().join(" ")
        };
        for (name, expected) in [
            ("users", "default/users"),
            (" users\n", "default/users"),
            ("default/users", "default/users"),
            ("kube-system/users", ""),
            ("", ""),
            // Nothing has such a name, and no list of what has it would ever come.
            ("users,more", ""),
            ("a=b", ""),
            ("default/a/b", ""),
        ] {
            assert_eq!(named(name), expected, "{name:?}");
        }
    }
}
