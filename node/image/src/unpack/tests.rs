use std::{
    io::Write as _,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
};

use tar::{Builder, EntryType, Header};

use super::*;

/// (path, kind, content or link target)
type Row = (&'static str, EntryType, &'static str);

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;

/// A layer, written without the checks of `tar::Builder`, so that it can be hostile.
fn layer(rows: &[Row]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, kind, content) in rows {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().expect("gnu").name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(if *kind == DIR { 0o750 } else { 0o640 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        let linked = kind.is_symlink() || kind.is_hard_link();
        if linked {
            header.as_gnu_mut().expect("gnu").linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_size(if linked { 0 } else { content.len() as u64 });
        header.set_cksum();
        builder.append(&header, if linked { &[][..] } else { content.as_bytes() }).expect("append");
    }
    builder.into_inner().expect("finish")
}

fn unpacked(rows: &[Row]) -> (tempfile::TempDir, io::Result<bool>) {
    let temp = tempfile::tempdir().expect("tempdir");
    let bytes = layer(rows);
    fs::write(temp.path().join("blob"), &bytes).expect("blob");
    let result = unpack_to(&temp.path().join("blob"), &temp.path().join("out"), &crate::store::digest(&bytes));
    (temp, result)
}

#[test]
fn files_links_modes_and_times_come_out() {
    let (temp, result) = unpacked(&[
        ("etc", DIR, ""),
        ("etc/motd", FILE, "hello"),
        ("bin", EntryType::Symlink, "usr/bin"),
        ("usr/bin/tool", FILE, "elf"),
        ("tool2", EntryType::Link, "usr/bin/tool"),
        // Through a symbolic link of the same layer.
        ("bin/other", FILE, "via link"),
        ("pipe", EntryType::Fifo, ""),
    ]);
    result.expect("unpack");
    let out = temp.path().join("out");
    assert_eq!(fs::read_to_string(out.join("etc/motd")).expect("motd"), "hello");
    assert_eq!(fs::metadata(out.join("etc")).expect("etc").permissions().mode() & 0o7777, 0o750);
    assert_eq!(fs::metadata(out.join("etc")).expect("etc").mtime(), 1_700_000_000);
    assert_eq!(fs::metadata(out.join("etc/motd")).expect("motd").mtime(), 1_700_000_000);
    assert_eq!(fs::read_to_string(out.join("usr/bin/other")).expect("other"), "via link");
    let tool = |name| fs::metadata(out.join(name)).expect("tool").ino();
    assert_eq!(tool("tool2"), tool("usr/bin/tool"));
    assert!(fs::metadata(out.join("pipe")).expect("pipe").file_type().is_fifo());
}

#[test]
fn whiteouts_become_what_overlayfs_reads() {
    let (temp, result) =
        unpacked(&[("a", DIR, ""), ("a/.wh.gone", FILE, ""), ("b", DIR, ""), ("b/.wh..wh..opq", FILE, "")]);
    result.expect("unpack");
    let out = temp.path().join("out");
    let gone = fs::symlink_metadata(out.join("a/gone")).expect("whiteout");
    assert!(gone.file_type().is_char_device());
    assert_eq!(gone.rdev(), 0);
    let mut value = [0; 8];
    let size = rustix::fs::getxattr(out.join("b"), "user.overlay.opaque", &mut value[..]).expect("attribute");
    assert_eq!(&value[..size], b"y");
}

#[test]
fn nothing_leaves_the_layer() {
    let (temp, result) = unpacked(&[
        ("../up", FILE, "x"),
        ("/absolute", FILE, "x"),
        ("out", EntryType::Symlink, "/"),
        ("out/escaped", FILE, "x"),
        ("up", EntryType::Symlink, "../../.."),
        ("up/escaped2", FILE, "x"),
    ]);
    result.expect("unpack");
    let out = temp.path().join("out");
    for inside in ["absolute", "escaped", "escaped2"] {
        assert!(out.join(inside).is_file(), "{inside}");
    }
    assert!(!Path::new("/escaped").exists() && !temp.path().join("up").exists());
}

#[test]
fn a_hard_link_to_a_file_outside_is_refused() {
    let (_temp, result) = unpacked(&[("passwd", EntryType::Link, "/etc/hostname-that-is-not-here")]);
    assert!(result.expect_err("refused").to_string().starts_with("passwd: "));
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let (temp, result) = unpacked(&[
        ("d", DIR, ""),
        ("d/f", FILE, "1"),
        ("d", FILE, "now a file"),
        ("l", EntryType::Symlink, "d"),
        ("l", FILE, "not through the link"),
    ]);
    result.expect("unpack");
    let out = temp.path().join("out");
    assert_eq!(fs::read_to_string(out.join("d")).expect("d"), "now a file");
    assert_eq!(fs::read_to_string(out.join("l")).expect("l"), "not through the link");
}

#[test]
fn the_digest_is_checked_and_damage_is_an_error() {
    let temp = tempfile::tempdir().expect("tempdir");
    let (blob, out) = (temp.path().join("blob"), temp.path().join("out"));
    fs::write(&blob, layer(&[("a", FILE, "x")])).expect("blob");
    let error = unpack_to(&blob, &out, "sha256:00").expect_err("digest");
    assert!(error.to_string().contains("its content has the digest sha256:"));

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&layer(&[("a", FILE, "x")])).expect("gzip");
    let gzip = gzip.finish().expect("gzip");
    for cut in (0..gzip.len()).step_by(7) {
        fs::remove_dir_all(&out).expect("remove");
        fs::write(&blob, &gzip[..cut]).expect("blob");
        assert!(unpack_to(&blob, &out, "sha256:00").is_err(), "cut at {cut}");
    }
}
