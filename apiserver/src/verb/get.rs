use http::Response;

use super::options::{reach, version};
use crate::answer;
use crate::body::Body;
use crate::call::Call;
use crate::status::Status;

/// Answers with the stored object, not older than the version that the query names.
pub(crate) async fn get(call: &Call) -> Result<Response<Body>, Status> {
    reach(call, version(&call.query)?).await?;
    let entry = call.server.store.get(&call.key()).ok_or_else(|| call.not_found())?;
    answer::object(call, 200, &entry.bytes, &[])
}
