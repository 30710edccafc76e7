use crate::Key;

/// A summary of everything that is stored, written with every group: a backend that lost a part of its data without
/// noticing does not match it any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seal {
    /// The last revision that was given.
    pub(crate) revision: u64,
    /// How many objects are live.
    count: u64,
    /// The sum of the hashes of all live keys with their revisions.
    digest: u64,
}

impl Seal {
    /// Counts a live version in.
    pub(crate) fn add(&mut self, key: &Key, revision: u64) {
        self.count = self.count.wrapping_add(1);
        self.digest = self.digest.wrapping_add(hash(key, revision));
    }

    /// Counts a version out that was replaced or deleted.
    pub(crate) fn remove(&mut self, key: &Key, revision: u64) {
        self.count = self.count.wrapping_sub(1);
        self.digest = self.digest.wrapping_sub(hash(key, revision));
    }

    pub(crate) fn encode(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (slot, number) in bytes.chunks_exact_mut(8).zip([self.revision, self.count, self.digest]) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Seal> {
        let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let seal = Seal { revision: number(0)?, count: number(8)?, digest: number(16)? };
        (bytes.len() == 24).then_some(seal)
    }
}

/// 64-bit FNV-1a: it guards against loss, not against forgery, and has to be the same in every version.
fn hash(key: &Key, revision: u64) -> u64 {
    let bytes = key.encode().into_iter().chain(revision.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
