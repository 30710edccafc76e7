/// What can be wrong with what a client sent; the message is the one Kubernetes gives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The JSON does not fit the type; 400 BadRequest with
    /// `Pod in version "v1" cannot be handled as a Pod: ` before it.
    #[error("{0}")]
    Decode(String),
    /// A patch that cannot be applied; 400 BadRequest or 422 Invalid.
    #[error("{0}")]
    Patch(String),
    /// A selector that cannot be read; 400 BadRequest.
    #[error("{0}")]
    Selector(String),
}
