//! The node agent of Coracle: pods as containers in network namespaces.
