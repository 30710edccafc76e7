//! The addresses that a block listens on.

use std::net::IpAddr;

use crate::chain::Setup;
use crate::corefile::{self, Block, Directive, Word};

/// `bind ADDRESS|INTERFACE... { except ADDRESS|INTERFACE... }`.
pub(crate) fn setup(directive: &Directive, _: &mut Setup) -> Result<(), corefile::Error> {
    of(directive, &interfaces()).map(drop)
}

/// What the block listens on; nothing is every address.
pub(crate) fn addresses(block: &Block) -> Result<Vec<IpAddr>, corefile::Error> {
    let directives = || block.directives.iter().filter(|directive| directive.name.text == "bind");
    let interfaces = if directives().next().is_some() { interfaces() } else { vec![] };
    let mut addresses = Vec::new();
    for directive in directives() {
        addresses.append(&mut of(directive, &interfaces)?);
    }
    Ok(addresses)
}

fn of(directive: &Directive, interfaces: &[(String, IpAddr)]) -> Result<Vec<IpAddr>, corefile::Error> {
    let mut except = Vec::new();
    for line in directive.properties() {
        match &line.name.text[..] {
            "except" => except.append(&mut listed(line.between(1, usize::MAX)?, interfaces)?),
            _ => return Err(line.unknown()),
        }
    }
    let mut addresses = listed(directive.line().between(1, usize::MAX)?, interfaces)?;
    addresses.retain(|address| !except.contains(address));
    match addresses.is_empty() {
        true => Err(directive.name.error("no address is left to listen on")),
        false => Ok(addresses),
    }
}

fn listed(words: &[Word], interfaces: &[(String, IpAddr)]) -> Result<Vec<IpAddr>, corefile::Error> {
    let mut addresses = Vec::new();
    for word in words {
        let before = addresses.len();
        addresses.extend(interfaces.iter().filter(|(name, _)| *name == word.text).map(|(_, address)| *address));
        if addresses.len() == before {
            let error = |_| word.error(format!("not a valid IP address or interface name: {:?}", word.text));
            addresses.push(word.text.parse().map_err(error)?);
        }
    }
    Ok(addresses)
}

/// The addresses of the network interfaces, but those of a link, which are nothing without its number.
fn interfaces() -> Vec<(String, IpAddr)> {
    let mut all = Vec::new();
    let mut first = std::ptr::null_mut();
    // SAFETY: on success the kernel's list is ours until freeifaddrs.
    if unsafe { libc::getifaddrs(&mut first) } != 0 {
        tracing::warn!("bind: the network interfaces are unknown: {}", std::io::Error::last_os_error());
        return all;
    }
    let mut next = first;
    // SAFETY: the entries of the list, of which the last one leads to null.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: null or an address, and its family says how long that is.
        let address = unsafe {
            match entry.ifa_addr.as_ref().map(|address| i32::from(address.sa_family)) {
                Some(libc::AF_INET) => {
                    let address = &*entry.ifa_addr.cast::<libc::sockaddr_in>();
                    Some(IpAddr::from(address.sin_addr.s_addr.to_ne_bytes()))
                }
                Some(libc::AF_INET6) => {
                    let address = &*entry.ifa_addr.cast::<libc::sockaddr_in6>();
                    Some(IpAddr::from(address.sin6_addr.s6_addr))
                }
                _ => None,
            }
        };
        // SAFETY: names end with a null.
        let name = unsafe { std::ffi::CStr::from_ptr(entry.ifa_name) }.to_string_lossy().into_owned();
        let linked = |address: &IpAddr| matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        all.extend(address.filter(|address| !linked(address)).map(|address| (name, address)));
        next = entry.ifa_next;
    }
    // SAFETY: the list of above, that nothing points into any longer.
    unsafe { libc::freeifaddrs(first) };
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_block() {
        let table: [(&str, &[&str]); 6] = [
            ("forward . 192.0.2.1", &[]),
            ("bind 127.0.0.1", &["127.0.0.1"]),
            ("bind 127.0.0.1\n bind ::1", &["127.0.0.1", "::1"]),
            ("bind lo ::1 {\n except 127.0.0.1 ::1\n }\n bind ::1", &["10.9.9.9", "::1"]),
            ("bind eth0", &["192.0.2.9"]),
            ("bind lo {\n except eth0\n }", &["127.0.0.1", "10.9.9.9", "::1"]),
        ];
        let known = [("lo", "127.0.0.1"), ("eth0", "192.0.2.9"), ("lo", "10.9.9.9"), ("lo", "::1")];
        let known = known.map(|(name, address)| (name.to_owned(), address.parse().unwrap()));
        for (directives, want) in table {
            let blocks = corefile::parse(&format!(". {{\n {directives}\n}}")).unwrap();
            let binds = blocks[0].directives.iter().filter(|directive| directive.name.text == "bind");
            let got: Vec<_> =
                binds.flat_map(|directive| of(directive, &known).unwrap()).map(|ip| ip.to_string()).collect();
            assert_eq!(got, want, "{directives}");
        }
        let loopback = corefile::parse(". {\n bind lo\n}").unwrap();
        assert!(addresses(&loopback[0]).unwrap().contains(&IpAddr::from([127, 0, 0, 1])));
    }

    #[test]
    fn errors() {
        let table = [
            ("bind", "Corefile:2: wrong argument count or unexpected line ending after 'bind'"),
            ("bind lo {\n except\n }", "Corefile:3: wrong argument count or unexpected line ending after 'except'"),
            ("bind lo {\n but lo\n }", "Corefile:3: unknown property 'but'"),
            ("bind 127.0.0.256", "Corefile:2: not a valid IP address or interface name: \"127.0.0.256\""),
            ("bind ::1 {\n except ::1\n }", "Corefile:2: no address is left to listen on"),
        ];
        for (directive, want) in table {
            let blocks = corefile::parse(&format!(". {{\n {directive}\n}}")).unwrap();
            assert_eq!(addresses(&blocks[0]).unwrap_err().to_string(), want, "{directive}");
        }
    }
}
