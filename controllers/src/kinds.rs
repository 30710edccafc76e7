//! The kinds that the API server serves, by discovery.

use std::sync::Arc;

use kube::Client;
use kube::core::ApiResource;
use kube::discovery::{ApiCapabilities, Discovery, Scope};
use tokio::sync::Mutex;

use crate::error::Error;

/// One kind: how to reach it and what can be done with it.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
    verbs: Vec<String>,
}

impl Kind {
    pub(crate) fn has(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }

    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural
    }

    /// `deployments.apps`; just `pods` for the core group.
    pub(crate) fn title(&self) -> String {
        match self.resource.group.as_str() {
            "" => format!("{}.", self.resource.plural),
            group => format!("{}.{group}", self.resource.plural),
        }
    }

    fn new((resource, capabilities): (ApiResource, ApiCapabilities)) -> Kind {
        Kind { resource, namespaced: capabilities.scope == Scope::Namespaced, verbs: capabilities.operations }
    }
}

/// What discovery said last.
pub(crate) struct Kinds {
    client: Client,
    known: Mutex<Option<Arc<Vec<Kind>>>>,
}

impl Kinds {
    pub(crate) fn new(client: Client) -> Kinds {
        Kinds { client, known: Mutex::new(None) }
    }

    /// All kinds that can be listed and deleted, in the version that the server prefers.
    pub(crate) async fn all(&self) -> Result<Arc<Vec<Kind>>, Error> {
        let mut known = self.known.lock().await;
        if let Some(kinds) = &*known {
            return Ok(kinds.clone());
        }
        let kinds = Arc::new(discover(&self.client).await?);
        *known = Some(kinds.clone());
        Ok(kinds)
    }

    /// Those of them whose objects live in namespaces.
    pub(crate) async fn namespaced(&self) -> Result<Vec<Kind>, Error> {
        Ok(self.all().await?.iter().filter(|kind| kind.namespaced).cloned().collect())
    }

    /// Asks again next time: a definition of a kind came or went.
    pub(crate) async fn forget(&self) {
        *self.known.lock().await = None;
    }
}

async fn discover(client: &Client) -> Result<Vec<Kind>, Error> {
    let discovery = match Discovery::new(client.clone()).run_aggregated().await {
        Ok(discovery) => discovery,
        Err(_) => Discovery::new(client.clone()).run().await?,
    };
    let kinds = discovery.groups().flat_map(|group| group.recommended_resources()).map(Kind::new);
    Ok(kinds.filter(|kind| kind.has("list") && kind.has("delete")).collect())
}
