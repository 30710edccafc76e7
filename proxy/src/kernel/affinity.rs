//! Which clients were sent where, carried over when a table is replaced.

use super::batch::{Batch, GET_ELEMENT, NEW_ELEMENT, kind};
use super::family::Family;
use super::table::{self, AFFINITY};
use crate::Error;
use crate::netlink::{Attrs, Buffer, Socket};

/// Appends to the batch that replaces a family's table what the old one remembers, each for as long as was left.
pub(crate) fn carry(socket: &mut Socket, batch: &mut Batch, table: &str, family: Family) -> Result<(), Error> {
    let mut entries = Vec::new();
    let which = |out: &mut Buffer| {
        out.text(1, table);
        out.text(2, AFFINITY);
    };
    let listed = socket.dump(kind(GET_ELEMENT), family.number(), which, |item| {
        entries.extend(item.attrs.inner(3).each().map(|(.., entry)| remembered(Attrs(entry))));
    });
    let code = |error: &std::io::Error| error.raw_os_error().unwrap_or_default();
    listed.map_err(|error| Error::from_kernel(code(&error), "list the clients with affinity", false))?;
    let raw = |entry: &Vec<u8>, out: &mut Buffer| out.raw(entry);
    table::elements(batch, NEW_ELEMENT, family, table, AFFINITY, &entries, raw);
    Ok(())
}

/// Key, data, time-out and what is left of it.
fn remembered(entry: Attrs<'_>) -> Vec<u8> {
    let mut out = Buffer::default();
    for (kind, nested) in [(1, true), (2, true), (4, false), (5, false)] {
        let value = entry.get(kind).unwrap_or_default();
        if nested { out.nest(kind, |out| out.raw(value)) } else { out.attr(kind, value) }
    }
    out.bytes().to_vec()
}
