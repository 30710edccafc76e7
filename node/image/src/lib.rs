//! Images: pulled, imported, unpacked.
