//! The wire format: a message is a row of numbered fields.

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Payload<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

/// Cuts a message into its fields, in order.
pub(super) fn fields(mut bytes: &[u8]) -> Result<Vec<(u32, Payload<'_>)>, String> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let number = u32::try_from(tag >> 3).map_err(|_| "a field's number is too large")?;
        let payload = match tag & 7 {
            0 => Payload::Number(varint(&mut bytes)?),
            1 => Payload::Fixed(u64::from_le_bytes(*take(&mut bytes, 8)?.first_chunk().ok_or(SHORT)?)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).map_err(|_| SHORT)?;
                Payload::Bytes(take(&mut bytes, length)?)
            }
            5 => Payload::Fixed(u32::from_le_bytes(*take(&mut bytes, 4)?.first_chunk().ok_or(SHORT)?).into()),
            other => return Err(format!("wire type {other} is unknown")),
        };
        fields.push((number, payload));
    }
    Ok(fields)
}

const SHORT: &str = "unexpected end of the message";

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (head, rest) = bytes.split_at_checked(length).ok_or(SHORT)?;
    *bytes = rest;
    Ok(head)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for at in 0..10 {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number is too long".to_owned())
}

/// The beginning of a field of bytes.
pub(super) fn head(out: &mut Vec<u8>, number: u32, length: usize) {
    put(out, u64::from(number) << 3 | 2);
    put(out, length as u64);
}

/// A field of bytes.
pub(super) fn bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    head(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

/// A field of a number.
pub(super) fn number(out: &mut Vec<u8>, at: u32, value: u64) {
    put(out, u64::from(at) << 3);
    put(out, value);
}

/// A field of 8 bytes.
pub(super) fn fixed(out: &mut Vec<u8>, number: u32, bits: u64) {
    put(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&bits.to_le_bytes());
}

/// A field that is a message: its length is put before it afterwards.
pub(super) fn nested<E>(
    out: &mut Vec<u8>,
    number: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put(out, u64::from(number) << 3 | 2);
    let start = out.len();
    write(out)?;
    let mut length = Vec::with_capacity(5);
    put(&mut length, (out.len() - start) as u64);
    out.splice(start..start, length);
    Ok(())
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
