//! Options of EDNS that questions get or lose.

use std::net::IpAddr;

use hickory_proto::op::Edns;
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption, NSIDPayload};
use ipnet::IpNet;

use crate::corefile::{Error, Word};
use crate::request::{Request, Transport};

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// It gets the value, if it is there.
    Replace,
    /// It is added, if it is not there.
    Append,
    Set,
    Unset,
}

const ACTIONS: [(&str, Action); 4] =
    [("replace", Action::Replace), ("append", Action::Append), ("set", Action::Set), ("unset", Action::Unset)];

/// The value of an option.
#[derive(Debug)]
enum Value {
    Data(Vec<u8>),
    Variable(Variable),
    Empty,
    /// The client's network, with so many bits of IPv4 and IPv6 addresses.
    Subnet(u8, u8),
}

/// Takes a value from a question.
type Variable = fn(&Request) -> Vec<u8>;

/// What a `local` option can be.
const VARIABLES: &[(&str, Variable)] = &[
    ("{qname}", |request| request.name().to_ascii().into_bytes()),
    ("{qtype}", |request| u16::from(request.kind()).to_be_bytes().into()),
    ("{client_ip}", |request| octets(request.context.client.ip())),
    ("{client_port}", |request| request.context.client.port().to_be_bytes().into()),
    ("{protocol}", |request| if request.context.transport == Transport::Udp { b"udp".into() } else { b"tcp".into() }),
    ("{server_ip}", |request| octets(request.context.server.ip())),
    ("{server_port}", |request| request.context.server.port().to_be_bytes().into()),
];

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// A rule about an option.
#[derive(Debug)]
pub(super) struct Option {
    action: Action,
    code: EdnsCode,
    value: Value,
}

impl Option {
    /// Reads `local ACTION CODE [DATA]`, `nsid ACTION` or `subnet ACTION [V4BITS V6BITS]`. `revert`
    /// at the end says nothing more: no option of a question comes back with its answer.
    pub(super) fn read(field: &Word, words: &[Word]) -> Result<Self, Error> {
        let few = || field.error("wrong count of arguments for an EDNS0 rule");
        let [kind, action, words @ ..] = words else { return Err(few()) };
        let Some((_, action)) = ACTIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&action.text)) else {
            return Err(action.error(format!("invalid action: {:?}", action.text)));
        };
        let words = match words {
            [words @ .., last] if last.text == "revert" && *action != Action::Unset => words,
            words => words,
        };
        let (code, value) = match (kind.text.to_ascii_lowercase().as_str(), words) {
            ("local", [code]) if *action == Action::Unset => (number(code)?, Value::Empty),
            ("local", [code, data]) if *action != Action::Unset => (number(code)?, local(data)?),
            ("nsid", []) => (EdnsCode::NSID.into(), Value::Empty),
            ("subnet", []) if *action == Action::Unset => (EdnsCode::Subnet.into(), Value::Empty),
            ("subnet", [v4, v6]) if *action != Action::Unset => {
                (EdnsCode::Subnet.into(), Value::Subnet(v4.number(0..=32)?, v6.number(0..=128)?))
            }
            ("local" | "nsid" | "subnet", _) => return Err(few()),
            (other, _) => return Err(kind.error(format!("invalid rule type {other:?}"))),
        };
        Ok(Option { action: *action, code: EdnsCode::from(code), value })
    }

    pub(super) fn apply(&self, request: &mut Request) {
        let option = match &self.value {
            Value::Data(data) => EdnsOption::Unknown(self.code.into(), data.clone()),
            Value::Variable(variable) => EdnsOption::Unknown(self.code.into(), variable(request)),
            Value::Empty => {
                NSIDPayload::new([]).map_or(EdnsOption::Unknown(self.code.into(), Vec::new()), EdnsOption::NSID)
            }
            Value::Subnet(v4, v6) => {
                let client = request.context.client.ip();
                let length = if client.is_ipv4() { *v4 } else { *v6 };
                // The lengths are no larger than those of the addresses.
                let network = IpNet::new(client, length).map_or(client, |net| net.trunc().addr());
                EdnsOption::Subnet(ClientSubnet::new(network, length, 0))
            }
        };
        let edns = request.message.edns.get_or_insert_with(|| {
            let mut edns = Edns::new();
            edns.set_max_payload(4096);
            edns
        });
        let there = edns.option(self.code).is_some();
        let adds = match self.action {
            Action::Replace => there,
            Action::Append => !there,
            Action::Set => true,
            Action::Unset => false,
        };
        if adds || self.action == Action::Unset {
            edns.options_mut().remove(self.code);
        }
        if adds {
            edns.options_mut().insert(option);
        }
    }
}

/// A number below 2¹⁶, also in hexadecimal digits.
fn number(word: &Word) -> Result<u16, Error> {
    let number = match word.text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => word.text.parse(),
    };
    number.map_err(|_| word.error(format!("{:?} is not the code of an option", word.text)))
}

/// Text, bytes in hexadecimal digits, or a variable.
fn local(word: &Word) -> Result<Value, Error> {
    let text = word.text.as_str();
    if text.starts_with('{') && text.ends_with('}') {
        return match VARIABLES.iter().find(|(name, _)| *name == text) {
            Some((_, variable)) => Ok(Value::Variable(*variable)),
            None => Err(word.error(format!("unsupported variable name {text:?}"))),
        };
    }
    let Some(digits) = text.strip_prefix("0x") else {
        return Ok(Value::Data(text.into()));
    };
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let pairs = digits.as_bytes().chunks(2).map(|pair| byte(pair).filter(|_| pair.len() == 2 && !pair.contains(&b'+')));
    let data = pairs.collect::<std::option::Option<_>>();
    data.map(Value::Data).ok_or_else(|| word.error(format!("{text:?} is not in hexadecimal digits")))
}
