//! Events that tell who announces the addresses of a Service, as MetalLB's.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource as _};
use state::Key;
use tracing::debug;

/// Says that this node announces these addresses now.
pub(crate) async fn write(client: Client, node: String, gained: Vec<(Key, IpAddr)>) {
    for (key, address) in gained {
        // kubectl finds the events of an object by its uid.
        let service = match Api::<Service>::namespaced(client.clone(), &key.namespace).get_metadata(&key.name).await {
            Ok(service) => service,
            Err(error) => {
                debug!("no event for the Service {key}: {error}");
                continue;
            }
        };
        let event = Event {
            type_: EventType::Normal,
            reason: "nodeAssigned".into(),
            note: Some(format!("announcing {address} from node {node:?} with protocol \"layer2\"")),
            action: "Announce".into(),
            secondary: None,
        };
        let reporter = Reporter { controller: "load-balancer".into(), instance: Some(node.clone()) };
        // One that lives on would repeat the text of the first event of a reason.
        if let Err(error) = Recorder::new(client.clone(), reporter).publish(&event, &service.object_ref(&())).await {
            debug!("no event for the Service {key}: {error}");
        }
    }
}
