//! What the programs of a pod listen on, as the kernel lists it in /proc/PID/net.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use state::Protocol;

/// How many ports a sentence names.
const LISTED: usize = 8;

/// The sockets that take connections, or datagrams from anyone, in the network of a process; none where they cannot be
/// read.
pub(super) fn listening(process: u32, protocol: Protocol) -> Option<Vec<SocketAddr>> {
    let file = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => return None,
    };
    let read = |file: String| std::fs::read_to_string(format!("/proc/{process}/net/{file}")).ok();
    let (v4, v6) = (read(file.into())?, read(format!("{file}6")).unwrap_or_default());
    Some(parse(&v4).chain(parse(&v6)).collect())
}

/// proc_pid_net(5): the local address is in hexadecimal, each word as the machine has it in memory; state 0A is a TCP
/// socket that listens, 07 a UDP socket that is connected to nobody.
fn parse(table: &str) -> impl Iterator<Item = SocketAddr> {
    table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().take(4).collect();
        let &[_, local, remote, state] = &fields[..] else { return None };
        let free = state == "0A" || (state == "07" && remote.ends_with(":0000"));
        let (address, port) = local.split_once(':')?;
        let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
        let address: IpAddr = match address.len() {
            8 => Ipv4Addr::from(word(0)?).into(),
            _ => {
                let words = [word(0)?, word(8)?, word(16)?, word(24)?];
                Ipv6Addr::from(<[u8; 16]>::try_from(words.as_flattened()).ok()?).to_canonical()
            }
        };
        free.then_some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
    })
}

/// Why nobody in a pod hears what is sent to `to`; None when somebody does.
pub(super) fn deaf(listening: &[SocketAddr], to: SocketAddr, protocol: Protocol) -> Option<String> {
    let hears = |own: &&SocketAddr| own.ip() == to.ip() || own.ip().is_unspecified();
    let here: Vec<&SocketAddr> = listening.iter().filter(|own| own.port() == to.port()).collect();
    if here.iter().any(hears) {
        return None;
    }
    if let Some(own) = here.first() {
        return Some(format!(
            "its program listens on {own} only, where nobody outside the pod reaches it: let it listen on 0.0.0.0"
        ));
    }
    let mut ports: Vec<u16> = listening.iter().filter(hears).map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    let named = ports.iter().take(LISTED).map(u16::to_string).collect::<Vec<_>>().join(", ");
    let more = if ports.len() > LISTED { ", ..." } else { "" };
    Some(match ports.is_empty() {
        true => format!("nothing in it listens on {protocol} port {}, nor on any other", to.port()),
        false => format!("nothing in it listens on {protocol} port {}, only on {named}{more}", to.port()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n";

    #[test]
    fn tables_of_the_kernel() {
        let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        let v4 = |bytes| word(bytes);
        let v6 = |address: Ipv6Addr| {
            let bytes = address.octets();
            bytes.chunks(4).map(|four| word(four.try_into().expect("four"))).collect::<String>()
        };
        let row =
            |local: String, remote: &str, state: &str| format!("   0: {local} {remote} {state} 00000000:00000000 00\n");
        let table = HEAD.to_owned()
            + &row(v4([127, 0, 0, 1]) + ":1F90", "00000000:0000", "0A")
            + &row(v4([10, 244, 0, 2]) + ":1F90", "0102F40A:9999", "01")
            + &row(v6(Ipv6Addr::UNSPECIFIED) + ":0050", "00000000000000000000000000000000:0000", "0A")
            + &row(v6(Ipv4Addr::new(10, 244, 0, 2).to_ipv6_mapped()) + ":0051", "0:0000", "0A")
            + &row(v4([0; 4]) + ":0035", "00000000:0000", "07")
            + "garbage\n";
        let found: Vec<String> = parse(&table).map(|socket| socket.to_string()).collect();
        assert_eq!(found, ["127.0.0.1:8080", "[::]:80", "10.244.0.2:81", "0.0.0.0:53"]);
    }

    #[test]
    fn who_hears() {
        let to = |port| SocketAddr::new([10, 244, 0, 2].into(), port);
        let all: Vec<SocketAddr> =
            ["127.0.0.1:8080", "[::]:80", "10.244.0.2:81"].map(|text| text.parse().expect("a socket")).into();
        let deaf = |listening: &[SocketAddr], port| deaf(listening, to(port), Protocol::Tcp);
        assert_eq!(deaf(&all, 80), None);
        assert_eq!(deaf(&all, 81), None);
        assert!(deaf(&all, 8080).is_some_and(|why| why.contains("127.0.0.1:8080 only")));
        assert_eq!(deaf(&all, 82).as_deref(), Some("nothing in it listens on TCP port 82, only on 80, 81"));
        assert_eq!(deaf(&[], 80).as_deref(), Some("nothing in it listens on TCP port 80, nor on any other"));
    }
}
