use super::*;

const MINE: Mac = [2, 0, 0, 0, 0, 1];
const THEIRS: Mac = [2, 0, 0, 0, 0, 2];
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);
const ASKER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

/// What Linux sent to find the address.
fn solicitation() -> Vec<u8> {
    let sent = "6000000000203aff20010db8000000000000000000000007ff0200000000000000000001ff123456\
                8700b3530000000020010db80000000000000000001234560101020000000002";
    let byte = |at: usize| u8::from_str_radix(&sent[at..at + 2], 16).unwrap();
    (0..sent.len()).step_by(2).map(byte).collect()
}

/// Changes a packet, and makes its checksum right.
fn changed(mut packet: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut packet);
    packet[42..44].fill(0);
    let at = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
    let sum = checksum(at(8), at(24), &packet[HEADER..]);
    packet[42..44].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn questions() {
    let asked = |asker| Some(Question { address: ADDRESS.into(), asker });
    let known = asked(Some((ASKER.into(), THEIRS)));
    let good = solicitation();
    let with_options = |options: &[u8]| {
        changed(solicitation(), |packet| {
            packet.truncate(HEADER + MESSAGE);
            packet.extend(options);
            packet[5] = (packet.len() - HEADER) as u8;
        })
    };
    for (what, packet, want) in [
        ("a question", good.clone(), known),
        ("padded", [&good[..], &[0; 9]].concat(), known),
        ("to the address itself", changed(good.clone(), |p| p[24..40].copy_from_slice(&ADDRESS.octets())), known),
        ("without options", with_options(&[]), known),
        ("with another option", with_options(&[14, 1, 1, 2, 3, 4, 5, 6]), known),
        ("a look for duplicates", probe(ADDRESS).bytes, asked(None)),
        ("one in another group", changed(probe(ADDRESS).bytes, |p| p[39] ^= 1), None),
        ("a nameless one with a name", changed(good.clone(), |p| p[8..24].fill(0)), None),
        ("an option of no length", with_options(&[1, 0, 0, 0, 0, 0, 0, 0]), None),
        ("an option that is cut", with_options(&[1, 2, 0, 0, 0, 0, 0, 0]), None),
        ("half an option", with_options(&[1]), None),
        ("an advertisement", announcement(ADDRESS, THEIRS).bytes, None),
        ("from a group", changed(good.clone(), |p| p[8] = 0xff), None),
        ("about a group", changed(good.clone(), |p| p[48] = 0xff), None),
        ("by way of a router", changed(good.clone(), |p| p[7] = 254), None),
        ("of another protocol", changed(good.clone(), |p| p[6] = 17), None),
        ("of another version", changed(good.clone(), |p| p[0] = 0x40), None),
        ("with a code", changed(good.clone(), |p| p[41] = 1), None),
        ("longer than it is", changed(good.clone(), |p| p[5] += 8), None),
        ("with a wrong checksum", [&good[..42], &[good[42] ^ 1], &good[43..]].concat(), None),
        ("cut", good[..63].to_vec(), None),
        ("nothing", Vec::new(), None),
    ] {
        assert_eq!(read(&packet, THEIRS), want, "{what}");
    }
}

#[test]
fn answers() {
    let Frame { protocol, to, bytes } = reply(ADDRESS, MINE, ASKER, THEIRS);
    assert_eq!((protocol, to, bytes.len()), (0x86dd, THEIRS, HEADER + 32));
    assert_eq!((bytes[40], bytes[44], &bytes[64..]), (136, 0x60, &[2, 1, 2, 0, 0, 0, 0, 1][..]));
    assert_eq!(checksum(ADDRESS, ASKER, &bytes[HEADER..]), 0);
    let told = announcement(ADDRESS, MINE);
    assert_eq!((told.to, told.bytes[44]), ([0x33, 0x33, 0, 0, 0, 1], 0x20));
    let asked = probe(ADDRESS);
    assert_eq!(asked.to, [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
    assert_eq!(group(ADDRESS).to_string(), "ff02::1:ff12:3456");
    // A look for duplicates is as Linux asks, but for who asks.
    let alike = changed(solicitation(), |packet| {
        packet[8..24].fill(0);
        packet.truncate(HEADER + MESSAGE);
        packet[5] = MESSAGE as u8;
    });
    assert_eq!(asked.bytes, alike);
}
