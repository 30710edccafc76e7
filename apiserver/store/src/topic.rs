use std::sync::Arc;

use crate::Event;

/// What a watch of a resource is about. It is woken for events of its topic only, and looks at no others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Every object.
    All,
    /// The objects of a namespace.
    Namespace(Arc<str>),
    /// One object: namespace and name.
    Object(Arc<str>, Arc<str>),
    /// The objects that concern one reader, by [`Audience`]; those that have just ceased to, too.
    Audience(Arc<str>),
}

/// What the store has to know of the metadata that is kept beside an object's bytes.
pub trait Audience {
    /// Whom the object concerns, where there is one such reader among many: of a pod, its node.
    fn audience(&self) -> Option<&Arc<str>> {
        None
    }
}

impl Audience for () {}

impl Audience for String {}

impl Topic {
    /// The topics of an event but for [`Topic::All`].
    pub(crate) fn of<M: Audience>(event: &Event<M>) -> impl Iterator<Item = Topic> {
        let key = &event.entry.key;
        let [now, before] = audiences(event);
        let places = [Topic::Namespace(key.namespace.clone()), Topic::Object(key.namespace.clone(), key.name.clone())];
        let audiences = [now, before.filter(|before| now != Some(before))];
        places.into_iter().chain(audiences.into_iter().flatten().cloned().map(Topic::Audience))
    }

    /// Whether the event is of this topic.
    pub(crate) fn holds<M: Audience>(&self, event: &Event<M>) -> bool {
        let key = &event.entry.key;
        match self {
            Topic::All => true,
            Topic::Namespace(namespace) => key.namespace == *namespace,
            Topic::Object(namespace, name) => key.namespace == *namespace && key.name == *name,
            Topic::Audience(audience) => audiences(event).contains(&Some(audience)),
        }
    }
}

/// Whom the object concerns now, and whom it did before.
fn audiences<M: Audience>(event: &Event<M>) -> [Option<&Arc<str>>; 2] {
    [Some(&event.entry), event.previous.as_ref()].map(|entry| entry?.meta.audience())
}
