//! The PROXY protocol: what an endpoint is told about the client before its first byte (HAProxy,
//! "The PROXY protocol, versions 1 & 2", sections 2.1 and 2.2).

use std::net::SocketAddr;

/// How endpoints are told who the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Bytes.
    V2,
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The header for a TCP connection of `client` to `at`; without addresses where their families differ.
pub(crate) fn header(version: ProxyProtocol, client: SocketAddr, at: SocketAddr) -> Vec<u8> {
    let one_family = client.is_ipv4() == at.is_ipv4();
    match version {
        ProxyProtocol::V1 if !one_family => b"PROXY UNKNOWN\r\n".to_vec(),
        ProxyProtocol::V1 => {
            let family = if client.is_ipv4() { 4 } else { 6 };
            let (from, to) = ((client.ip(), client.port()), (at.ip(), at.port()));
            format!("PROXY TCP{family} {} {} {} {}\r\n", from.0, to.0, from.1, to.1).into_bytes()
        }
        ProxyProtocol::V2 => {
            let (command, family, addresses) = match (client, at) {
                (SocketAddr::V4(client), SocketAddr::V4(at)) => {
                    (0x21, 0x11, [client.ip().octets(), at.ip().octets()].concat())
                }
                (SocketAddr::V6(client), SocketAddr::V6(at)) => {
                    (0x21, 0x21, [client.ip().octets(), at.ip().octets()].concat())
                }
                // LOCAL, and nothing of a known family: the endpoint takes the connection as it is.
                _ => return [SIGNATURE, &[0x20, 0, 0, 0]].concat(),
            };
            let length = (addresses.len() + 4) as u16;
            let ports = [client.port().to_be_bytes(), at.port().to_be_bytes()].concat();
            [SIGNATURE, &[command, family], &length.to_be_bytes(), &addresses, &ports].concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of section 2.1, and the fields of section 2.2 byte by byte.
    #[test]
    fn headers_are_those_of_the_specification() {
        let v4 = ("192.168.0.1:56324", "192.168.0.11:443");
        let v6 = ("[2001:db8::1]:4660", "[2001:db8::2]:80");
        let mixed = ("192.168.0.1:56324", "[2001:db8::2]:80");
        let signature = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
        let v4_bytes = [0x21, 0x11, 0, 12, 192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 0x01, 0xbb];
        let mut v6_bytes = vec![0x21, 0x21, 0, 36];
        for last in [1, 2] {
            v6_bytes.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        v6_bytes.extend([0x12, 0x34, 0, 80]);
        let text = |text: &str| text.as_bytes().to_vec();
        let binary = |rest: &[u8]| [&signature, rest].concat();
        let cases = [
            (ProxyProtocol::V1, v4, text("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n")),
            (ProxyProtocol::V1, v6, text("PROXY TCP6 2001:db8::1 2001:db8::2 4660 80\r\n")),
            (ProxyProtocol::V1, mixed, text("PROXY UNKNOWN\r\n")),
            (ProxyProtocol::V2, v4, binary(&v4_bytes)),
            (ProxyProtocol::V2, v6, binary(&v6_bytes)),
            (ProxyProtocol::V2, mixed, binary(&[0x20, 0, 0, 0])),
        ];
        for (version, (client, at), expected) in cases {
            let header = header(version, client.parse().expect("an address"), at.parse().expect("an address"));
            assert_eq!(header, expected, "{version:?} {client} {at}");
        }
    }
}
