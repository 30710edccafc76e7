//! Endpoints, as they are connected to.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use proxy::user::Open;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::Protocol;
use crate::stream::Stream;

/// For how long an endpoint that could not be reached is the last to be tried.
const ASIDE: Duration = Duration::from_secs(2);
/// How many such endpoints are remembered.
const ASIDES: usize = 64;

/// One endpoint and how it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Peer {
    pub(crate) at: SocketAddr,
    pub(crate) protocol: Protocol,
}

impl Peer {
    /// Connects to it.
    pub(crate) async fn connect(self, open: &Open<TcpStream>, patience: Duration) -> io::Result<Stream<TcpStream>> {
        let connecting = async {
            let stream = open(self.at).await?;
            stream.set_nodelay(true)?;
            let config = match self.protocol {
                Protocol::Http | Protocol::Grpc => return Ok(Stream::Plain(stream)),
                Protocol::Https => &TLS[0],
                Protocol::Grpcs => &TLS[1],
            };
            let config = config.clone().ok_or_else(|| io::Error::other("no TLS"))?;
            let name = ServerName::IpAddress(self.at.ip().into());
            Ok(Stream::Tls(Box::new(TlsConnector::from(config).connect(name, stream).await?.into())))
        };
        timeout(patience, connecting).await?
    }
}

/// TLS for HTTP/1.1 and for HTTP/2, made when the first endpoint speaks it.
static TLS: LazyLock<[Option<Arc<ClientConfig>>; 2]> = LazyLock::new(|| {
    let config = |protocols: &[&[u8]]| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().ok()?;
        let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)));
        let mut config = config.with_no_client_auth();
        config.enable_sni = false;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Some(Arc::new(config))
    };
    [config(&[]), config(&[b"h2"])]
});

/// Takes every certificate, as nginx does where `proxy_ssl_verify` is off: endpoints are known by their address.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The endpoints that could not be reached a moment ago, as one thread has seen it.
#[derive(Debug, Default)]
pub(crate) struct Aside(Mutex<Vec<(SocketAddr, Instant)>>);

impl Aside {
    /// Puts one aside.
    pub(crate) fn put(&self, at: SocketAddr, now: Instant) {
        let mut aside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        aside.retain(|(other, until)| *other != at && *until > now);
        if aside.len() < ASIDES {
            aside.push((at, now + ASIDE));
        }
    }

    /// The next endpoint to be tried: in turn, but not one that was `tried` before, and rather not one put aside.
    pub(crate) fn pick(
        &self,
        endpoints: &[SocketAddr],
        turn: usize,
        tried: &[SocketAddr],
        now: Instant,
    ) -> Option<SocketAddr> {
        let mut rotation = (0..endpoints.len()).map(|step| endpoints[(turn + step) % endpoints.len()]);
        let mut fresh = rotation.clone().filter(|at| !tried.contains(at));
        let mut aside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if aside.is_empty() {
            return fresh.next().or_else(|| rotation.next());
        }
        aside.retain(|(_, until)| *until > now);
        let well = fresh.clone().find(|at| aside.iter().all(|(other, _)| other != at));
        well.or_else(|| fresh.next()).or_else(|| rotation.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_to_try() {
        let [one, two, three] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"].map(|at| at.parse().unwrap());
        let (all, aside, now) = ([one, two, three], Aside::default(), Instant::now());
        assert_eq!(aside.pick(&[], 0, &[], now), None);
        assert_eq!(aside.pick(&all, 4, &[], now), Some(two));
        assert_eq!(aside.pick(&all, 4, &[two], now), Some(three));
        assert_eq!(aside.pick(&[one], 4, &[one], now), Some(one), "the only one is tried again");
        aside.put(two, now);
        assert_eq!(aside.pick(&all, 4, &[], now), Some(three));
        assert_eq!(aside.pick(&[two], 4, &[], now), Some(two));
        aside.put(three, now);
        aside.put(one, now);
        assert_eq!(aside.pick(&all, 4, &[], now), Some(two), "rather than nobody");
        assert_eq!(aside.pick(&all, 4, &[], now + ASIDE), Some(two));
    }
}
