//! What Coracle knows about the kinds of Kubernetes, as one table, and what follows from it.
