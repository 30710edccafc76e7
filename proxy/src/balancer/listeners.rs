//! The programs of a node that have ports there, as the kernel lists them in /proc.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use state::Protocol;

/// How many sockets of a kind are looked at.
const SOCKETS: usize = 65_536;

/// TCP_LISTEN, and TCP_CLOSE, which is what the kernel writes for a UDP socket that takes packets from everyone.
const LISTENS: &str = "0A";
const UNCONNECTED: &str = "07";

/// A socket that takes what comes to a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) protocol: Protocol,
    /// Unspecified for all addresses. One at `::` mostly takes what comes to IPv4, too.
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    /// Its inode.
    pub(crate) socket: u64,
}

/// Those of a network namespace, whose `/proc/PID/net` this is. A list that cannot be read is empty.
pub(crate) fn listeners(network: &Path) -> Vec<Listener> {
    let lists = [("tcp", Protocol::Tcp), ("tcp6", Protocol::Tcp), ("udp", Protocol::Udp), ("udp6", Protocol::Udp)];
    let read = |(name, protocol)| {
        let file = File::open(network.join(name)).ok().map(BufReader::new);
        file.into_iter().flat_map(move |file| list(file, protocol))
    };
    lists.into_iter().flat_map(read).collect()
}

/// One of the lists. In those of TCP the listeners come first.
fn list(list: impl BufRead, protocol: Protocol) -> Vec<Listener> {
    let sockets = list.lines().skip(1).take(SOCKETS).map_while(Result::ok);
    let read = |line: String| -> Option<Option<Listener>> {
        let mut words = line.split_whitespace().skip(1);
        let (address, port) = words.next()?.split_once(':')?;
        let listens = match (protocol, words.nth(1)?) {
            (Protocol::Tcp, LISTENS) | (Protocol::Udp, UNCONNECTED) => true,
            (Protocol::Tcp, _) => return None,
            _ => false,
        };
        let (port, socket) = (u16::from_str_radix(port, 16).ok()?, words.nth(5)?.parse().ok()?);
        Some(listens.then_some(Listener { protocol, address: address_of(address)?, port, socket }))
    };
    sockets.map_while(read).flatten().collect()
}

/// An address as words of four bytes in the machine's order, in hex digits.
fn address_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    if text.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let words = [word(0)?, word(1)?, word(2)?, word(3)?];
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?).to_canonical())
}

/// The program that has a socket, if this process may know: its name and number.
pub(crate) fn program(socket: u64) -> Option<String> {
    let link = format!("socket:[{socket}]");
    let has = |process: &Path| {
        let mut files = fs::read_dir(process.join("fd")).ok()?.flatten();
        files.find(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == link.as_str()))
    };
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        has(&entry.path())?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        Some(format!("{}, process {number}", name.trim_end()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_kernel() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0 100 0 0 10 0
   2: 0200A8C0:0051 0300A8C0:C000 01 00000000:00000000 00:00000000 00000000     0        0 13 1 0 100 0 0 10 0
   3: 00000000:0052 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 14 1 0 100 0 0 10 0
";
        let udp = "  sl  local_address                         remote_address                        st tx_queue …
  10: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 21 2 0 0
  11: 00000000000000000000000000000000:0036 00000000000000000000000001000000:0035 01 00000000:00000000 00:00000000 00000000 0 0 22 2 0 0
  12: 0000000000000000FFFF00000100007F:0037 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 23 2 0 0
nonsense
";
        let listener = |protocol, address: &str, port, socket| {
            let address = address.parse().unwrap();
            Listener { protocol, address, port, socket }
        };
        let (tcp, udp) = (list(tcp.as_bytes(), Protocol::Tcp), list(udp.as_bytes(), Protocol::Udp));
        let want = [listener(Protocol::Tcp, "127.0.0.1", 8080, 11), listener(Protocol::Tcp, "0.0.0.0", 80, 12)];
        assert_eq!(tcp, want);
        assert_eq!(udp, [listener(Protocol::Udp, "::1", 53, 21), listener(Protocol::Udp, "127.0.0.1", 55, 23)]);
        for text in ["", "0100", "0100007g", "00000000000000000000000001"] {
            assert_eq!(address_of(text), None, "{text}");
        }
    }

    #[test]
    fn a_listener_of_this_process_is_found() {
        let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let packets = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let all = listeners(Path::new("/proc/thread-self/net"));
        for (protocol, at) in [(Protocol::Tcp, own.local_addr()), (Protocol::Udp, packets.local_addr())] {
            let at = at.unwrap();
            let found = all.iter().find(|l| (l.protocol, l.address, l.port) == (protocol, at.ip(), at.port())).unwrap();
            let program = program(found.socket).unwrap();
            assert!(program.ends_with(&format!("process {}", std::process::id())), "{program}");
        }
    }
}
