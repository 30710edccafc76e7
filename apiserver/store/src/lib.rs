//! The revisioned store of Coracle: live objects and their history in memory, every acknowledged write on the disk.
