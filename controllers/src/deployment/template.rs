//! Pod templates: when two are the same version, and the short hash that names a version.

use k8s_openapi::api::core::v1::PodTemplateSpec;

/// The label that keeps the pods of two versions apart.
pub(super) const HASH_LABEL: &str = "pod-template-hash";

/// Letters and digits that make no words (Kubernetes' "safe encoding").
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Whether two templates are the same but for the hash label.
pub(super) fn same(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    if a.spec != b.spec {
        return false;
    }
    let bare = |template: &PodTemplateSpec| {
        let mut meta = template.metadata.clone().unwrap_or_default();
        meta.labels.get_or_insert_default().remove(HASH_LABEL);
        meta.creation_timestamp = None;
        meta
    };
    bare(a) == bare(b)
}

/// A hash of the template that stays the same from one run to the next. `collisions` makes it another one when
/// the name it leads to is taken.
pub(super) fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut bytes = serde_json::to_vec(template).unwrap_or_default();
    bytes.extend(collisions.into_iter().flat_map(i32::to_le_bytes));
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    hash.to_string().bytes().map(|digit| char::from(SAFE[usize::from(digit) % SAFE.len()])).collect()
}
