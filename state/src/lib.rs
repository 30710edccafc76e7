//! Services, EndpointSlices, Nodes and Pods folded into one immutable Snapshot.
