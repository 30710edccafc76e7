use http::Response;

use crate::answer;
use crate::body::Body;
use crate::call::Call;
use crate::status::Status;

/// Answers with the stored object.
pub(crate) fn get(call: &Call) -> Result<Response<Body>, Status> {
    let entry = call.server.store.get(&call.key()).ok_or_else(|| call.not_found())?;
    answer::object(call, 200, &entry.bytes, &[])
}
