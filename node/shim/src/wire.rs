//! What agent and shim say to each other: one request for each connection, then its answers.
//!
//! A message is its length (4 bytes, little-endian) and that much JSON; file descriptors travel with
//! the first byte of the answer they belong to. One request per connection needs no ids and no
//! matching, and a connection that breaks concerns nothing else.

use crate::spec::{Container, Exec, Exit, Limits, State};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The version of this protocol; both sides refuse another. Shims outlive agents, so a change of a
/// message that is not just one more optional field counts.
pub(crate) const VERSION: u32 = 1;
/// The socket's name in the pod's directory.
pub(crate) const SOCKET: &str = "shim.sock";
/// The sandbox's name in the pod's directory.
pub(crate) const SANDBOX: &str = "sandbox.json";
/// What a shim writes to its standard output when it is ready to answer.
pub(crate) const READY: &str = "ready";
/// The longest message; a container's environment is the longest thing in one.
pub(crate) const MESSAGE_MAX: usize = 4 << 20;
/// Most file descriptors with one message.
pub(crate) const FDS_MAX: usize = 3;

/// The first and only message of the agent on a connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The agent's [`VERSION`].
    pub(crate) version: u32,
    /// What it wants.
    pub(crate) verb: Verb,
}

/// What an agent can ask.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Verb {
    /// Answered with `Done`: the shim is there and speaks this version.
    Hello,
    /// Answered with `State`.
    Start(Box<Container>),
    /// Send a signal to a container's first process; answered with `Done`.
    Signal(String, i32),
    /// Change the limits of a running container, and with them the pod's; answered with `Done`.
    Limit(String, Limits, Limits),
    /// Answered with `States`.
    States,
    /// Answered with `Exited` for every container that ended, those of the past first.
    Watch,
    /// Forget a container that ended; answered with `Done`.
    Remove(String),
    /// Answered with `Streams` and, when the process ended, `Ended`. The process is killed when the
    /// connection closes before.
    Exec(Exec),
    /// Answered with `Streams`: live copies of a container's output and its input.
    Attach(String),
    /// Kill everything; answered with `Done`, then the shim ends.
    Shutdown,
}

/// A message of the shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It was done.
    Done,
    /// It could not be done, and nothing of it is left.
    Refused(String),
    /// A container was started.
    State(State),
    /// All containers.
    States(Vec<State>),
    /// A container ended.
    Exited(State),
    /// The file descriptors that come with this message, in this order.
    Streams(Vec<Stream>),
    /// A process of an exec ended.
    Ended(Exit),
}

/// What a file descriptor is, seen from the agent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Stream {
    /// Written by the agent.
    Stdin,
    /// Read by the agent.
    Stdout,
    /// Read by the agent.
    Stderr,
    /// The master side of a terminal.
    Tty,
}

/// A message as bytes.
pub(crate) fn encode(message: &impl Serialize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message).map_err(|error| error.to_string())?;
    let length = bytes.len() - 4;
    if length > MESSAGE_MAX {
        return Err(format!("message of {length} bytes is longer than {MESSAGE_MAX}"));
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(bytes)
}

/// Takes the first whole message from the front of `buffer`; `None` while it is not all there.
pub(crate) fn decode<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> Result<Option<T>, String> {
    let Some(head) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*head) as usize;
    if length > MESSAGE_MAX {
        return Err(format!("message of {length} bytes is longer than {MESSAGE_MAX}"));
    }
    let Some(body) = buffer.get(4..4 + length) else {
        return Ok(None);
    };
    let message = serde_json::from_slice(body).map_err(|error| format!("not a message: {error}"))?;
    buffer.drain(..4 + length);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_and_in_order() {
        let first = encode(&Request { version: VERSION, verb: Verb::Signal("web".into(), 15) }).unwrap();
        let second = encode(&Request { version: VERSION, verb: Verb::States }).unwrap();
        let mut buffer = Vec::new();
        for byte in &first {
            assert!(decode::<Request>(&mut buffer).unwrap().is_none());
            buffer.push(*byte);
        }
        buffer.extend(&second);
        let message = decode::<Request>(&mut buffer).unwrap().unwrap();
        assert!(matches!(message.verb, Verb::Signal(name, 15) if name == "web"));
        assert!(matches!(decode::<Request>(&mut buffer).unwrap().unwrap().verb, Verb::States));
        assert!(buffer.is_empty());
    }

    #[test]
    fn long_and_strange_messages_are_refused() {
        let mut long = ((MESSAGE_MAX + 1) as u32).to_le_bytes().to_vec();
        assert!(decode::<Request>(&mut long).unwrap_err().contains("longer than"));
        let mut strange = b"\x02\0\0\0{]".to_vec();
        assert!(decode::<Request>(&mut strange).unwrap_err().contains("not a message"));
    }
}
