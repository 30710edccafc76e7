//! IPv4 and IPv6: a table each, with the same sets and chains.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::expr::Register;

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const ALL: [Family; 2] = [Family::V4, Family::V6];

    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// NFPROTO_IPV4 or NFPROTO_IPV6, which are also AF_INET and AF_INET6.
    pub(crate) fn number(self) -> u8 {
        match self {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }

    /// The family of such a number.
    pub(crate) fn numbered(number: u8) -> Option<Self> {
        Family::ALL.into_iter().find(|family| family.number() == number)
    }

    /// The name of its tables' kind, as nft has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    /// How many registers an address takes.
    pub(crate) fn registers(self) -> Register {
        self.length() / 4
    }

    /// How many bytes an address takes.
    pub(crate) fn length(self) -> u32 {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Family::V4 { "IPv4" } else { "IPv6" })
    }
}

/// The bytes of a value in registers: each field begins with one of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Value {
    /// As many as there are registers.
    bytes: [[u8; 16]; 4],
    length: usize,
}

impl Value {
    pub(crate) fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.field(&address.octets()),
            IpAddr::V6(address) => self.field(&address.octets()),
        }
    }

    /// Appends a field of at most 16 bytes.
    pub(crate) fn field(mut self, field: &[u8]) -> Self {
        let bytes = self.bytes.as_flattened_mut();
        bytes[self.length..self.length + field.len()].copy_from_slice(field);
        self.length += field.len().next_multiple_of(4);
        self
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes.as_flattened()[..self.length]
    }
}

/// The bytes of an address.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    Value::default().address(address).bytes().to_vec()
}

/// The first network of a family.
pub(crate) fn network(networks: &[IpNet], family: Family) -> Option<IpNet> {
    networks.iter().copied().find(|network| Family::of(network.addr()) == family)
}
