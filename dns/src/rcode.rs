//! Response codes by the names that logs, metrics and Corefiles have for them.

use hickory_proto::op::ResponseCode;

/// The names of codes, by number (the IANA registry of DNS RCODEs; some have none).
const NAMES: [&str; 24] = [
    "NOERROR",
    "FORMERR",
    "SERVFAIL",
    "NXDOMAIN",
    "NOTIMP",
    "REFUSED",
    "YXDOMAIN",
    "YXRRSET",
    "NXRRSET",
    "NOTAUTH",
    "NOTZONE",
    "",
    "",
    "",
    "",
    "",
    "BADSIG",
    "BADKEY",
    "BADTIME",
    "BADMODE",
    "BADNAME",
    "BADALG",
    "BADTRUNC",
    "BADCOOKIE",
];

/// The name of a code; codes without one have their number.
pub(crate) fn name(code: ResponseCode) -> String {
    let number = u16::from(code);
    let name = NAMES.get(usize::from(number)).filter(|name| !name.is_empty());
    name.map_or_else(|| number.to_string(), |name| name.to_string())
}

/// The code of a name, in any case, or of a number below 24.
pub(crate) fn parse(text: &str) -> Option<ResponseCode> {
    let number = |text: &str| text.parse().ok().filter(|number| *number < NAMES.len());
    let named = || NAMES.iter().position(|name| !name.is_empty() && name.eq_ignore_ascii_case(text));
    Some(u16::try_from(number(text).or_else(named)?).ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let table = [
            ("NOERROR", ResponseCode::NoError),
            ("NXDOMAIN", ResponseCode::NXDomain),
            ("SERVFAIL", ResponseCode::ServFail),
            ("BADSIG", ResponseCode::BADSIG),
            ("BADCOOKIE", ResponseCode::BADCOOKIE),
        ];
        for (text, code) in table {
            assert_eq!((name(code).as_str(), parse(text)), (text, Some(code)));
            assert_eq!(parse(&text.to_ascii_lowercase()), Some(code));
            assert_eq!(parse(&u16::from(code).to_string()), Some(code));
        }
        assert_eq!(name(ResponseCode::Unknown(12)), "12");
        assert_eq!((parse(""), parse("24"), parse("NOPE")), (None, None, None));
    }
}
