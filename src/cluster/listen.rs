//! The API server's sockets on the host.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::PathBuf,
};

use anyhow::Context as _;

use crate::config::Options;

/// The API server's TCP sockets.
pub(super) struct Listeners {
    /// The first one, on the host's loopback.
    pub api: SocketAddr,
    /// All of them.
    pub all: Vec<TcpListener>,
}

impl Listeners {
    /// Takes the host's ports.
    ///
    /// # Errors
    /// When one is taken, with what to do.
    pub(super) fn bind(options: &Options) -> anyhow::Result<Self> {
        let listen = |address: IpAddr, port: u16| {
            TcpListener::bind((address, port)).with_context(|| {
                format!("listen on {address}:{port} for the API server: choose another port with --api-port")
            })
        };
        // A socket on every address has loopback's, too, and no other one can have the port.
        let first = options.listens_everywhere().unwrap_or(Ipv4Addr::LOCALHOST.into());
        let mut all = vec![listen(first, options.api_port)?];
        let port = all[0].local_addr()?.port();
        let others = options.listen.iter().filter(|_| !first.is_unspecified());
        for address in others.filter(|address| !address.is_loopback()) {
            all.push(listen(*address, port)?);
        }
        Ok(Self { api: (Ipv4Addr::LOCALHOST, port).into(), all })
    }
}

/// A Unix listener that only its owner can open. One left by a crash is replaced: the directory is locked.
pub(super) fn unix(path: PathBuf) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
