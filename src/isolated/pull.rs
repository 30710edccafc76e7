//! Images for the isolated node, which has no way to a registry: the main process pulls them into
//! the store that both see, one line of JSON each way.

use std::{os::unix::net::UnixStream, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use image::Credentials;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    sync::Mutex,
};

use crate::cluster::{Puller, pull};

#[derive(Deserialize, Serialize)]
struct Ask {
    reference: String,
    credentials: Option<Credentials>,
}

/// Answers the node's requests until it is gone.
pub(crate) async fn serve(socket: UnixStream, images: image::Store) -> anyhow::Result<()> {
    socket.set_nonblocking(true)?;
    let (read, mut write) = tokio::net::UnixStream::from_std(socket)?.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let ask: Ask = serde_json::from_str(&line)?;
        let answer = pull(&images, &ask.reference, ask.credentials).await;
        write.write_all((serde_json::to_string(&answer)? + "\n").as_bytes()).await?;
    }
    Ok(())
}

/// The node's side: pulls through the main process.
///
/// # Errors
/// When the socket cannot be registered with the runtime.
pub(crate) fn puller(socket: UnixStream) -> anyhow::Result<Puller> {
    socket.set_nonblocking(true)?;
    let socket = Arc::new(Mutex::new(BufReader::new(tokio::net::UnixStream::from_std(socket)?)));
    Ok(Arc::new(move |reference, credentials| {
        let socket = socket.clone();
        async move {
            let mut socket = socket.lock().await;
            exchange(&mut socket, Ask { reference, credentials }).await.unwrap_or_else(|error| Err(error.to_string()))
        }
        .boxed() as BoxFuture<'static, Result<(), String>>
    }))
}

async fn exchange(socket: &mut BufReader<tokio::net::UnixStream>, ask: Ask) -> anyhow::Result<Result<(), String>> {
    socket.write_all((serde_json::to_string(&ask)? + "\n").as_bytes()).await?;
    let mut line = String::new();
    socket.read_line(&mut line).await?;
    Ok(serde_json::from_str(&line)?)
}
