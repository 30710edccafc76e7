//! bpf(2): maps, programs, and where programs are attached.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::assembler::Instruction;
use crate::Error;

/// Commands (`enum bpf_cmd`).
const MAP_CREATE: i32 = 0;
const MAP_LOOKUP: i32 = 1;
const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const PROG_BY_ID: i32 = 13;
const MAP_BY_ID: i32 = 14;
const INFO: i32 = 15;
const PROG_QUERY: i32 = 16;
const MAP_UPDATE_BATCH: i32 = 26;
const MAP_DELETE_BATCH: i32 = 27;

/// BPF_PROG_TYPE_CGROUP_SOCK_ADDR.
const SOCKET_ADDRESS: u32 = 18;
/// BPF_F_ALLOW_MULTI and BPF_F_REPLACE.
const MULTI: u32 = 2;
const REPLACE: u32 = 4;
/// How many programs of one kind the kernel allows on a cgroup.
const ATTACHED: usize = 64;
/// How many maps a program may have here.
const MAPS: usize = 8;

/// The kinds of maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Elements take memory when they come; one too many is refused.
    Hash,
    /// All memory is taken at once; the least recently used element makes way for one too many.
    Recent,
}

/// The argument of one call, by the offsets in `union bpf_attr`.
struct Call([u8; 80]);

impl Call {
    fn new() -> Self {
        Call([0; 80])
    }

    fn bytes(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn number(self, offset: usize, number: u32) -> Self {
        self.bytes(offset, &number.to_ne_bytes())
    }

    fn descriptor(self, offset: usize, of: &impl AsRawFd) -> Self {
        self.bytes(offset, &of.as_raw_fd().to_ne_bytes())
    }

    fn pointer<T>(self, offset: usize, to: *const T) -> Self {
        self.bytes(offset, &(to as u64).to_ne_bytes())
    }

    fn read(&self, offset: usize) -> u32 {
        number(&self.0, offset)
    }

    /// # Safety
    /// The pointers in it lead to memory as large as the command says, and, where the kernel
    /// writes to it, to memory that is borrowed mutably.
    unsafe fn run(&mut self, command: i32) -> io::Result<i32> {
        // SAFETY: the kernel reads and writes within the length, and what the caller vouches for.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
    }

    /// # Safety
    /// As for `run`; the command answers with a new file descriptor.
    unsafe fn open(&mut self, command: i32) -> io::Result<OwnedFd> {
        // SAFETY: the caller's; and the descriptor is new, so nobody else owns it.
        unsafe { Ok(OwnedFd::from_raw_fd(self.run(command)?)) }
    }
}

fn number(bytes: &[u8], offset: usize) -> u32 {
    bytes[offset..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

fn failed(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let doing = doing.into();
    |source| Error::Bpf { doing, source }
}

/// A map of the kernel, from keys of `K` bytes to values of `V`.
#[derive(Debug)]
pub(crate) struct Map<const K: usize, const V: usize> {
    name: &'static str,
    descriptor: OwnedFd,
}

impl<const K: usize, const V: usize> AsRawFd for Map<K, V> {
    fn as_raw_fd(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }
}

impl<const K: usize, const V: usize> Map<K, V> {
    pub(crate) fn new(name: &'static str, kind: Kind, capacity: u32) -> Result<Self, Error> {
        // BPF_MAP_TYPE_HASH with BPF_F_NO_PREALLOC, or BPF_MAP_TYPE_LRU_HASH.
        let (kind, flags) = match kind {
            Kind::Hash => (1, 1),
            Kind::Recent => (9, 0),
        };
        let mut call = Call::new().number(0, kind).number(4, K as u32).number(8, V as u32).number(12, capacity);
        call = call.number(16, flags).bytes(28, name.as_bytes());
        // SAFETY: there are no pointers in it.
        let descriptor = unsafe { call.open(MAP_CREATE) };
        Ok(Map { name, descriptor: descriptor.map_err(failed(format!("make the BPF map {name}")))? })
    }

    /// The map of this name and shape among those of programs that run.
    pub(crate) fn found(name: &'static str, maps: &mut Vec<OwnedFd>) -> Option<Self> {
        let at = maps.iter().position(|map| {
            let info = information::<40>(map).unwrap_or([0; 40]);
            let named = info[24..].strip_prefix(name.as_bytes()).is_some_and(|rest| rest[0] == 0);
            named && number(&info, 8) == K as u32 && number(&info, 12) == V as u32
        })?;
        Some(Map { name, descriptor: maps.swap_remove(at) })
    }

    pub(crate) fn get(&self, key: &[u8; K]) -> Option<[u8; V]> {
        let mut value = [0; V];
        let mut call = Call::new().descriptor(0, self).pointer(8, key).pointer(16, value.as_mut_ptr());
        // SAFETY: the kernel reads K and writes V bytes.
        unsafe { call.run(MAP_LOOKUP) }.ok().map(|_| value)
    }

    /// Adds or replaces elements, one after the other.
    pub(crate) fn put(&self, elements: &[([u8; K], [u8; V])]) -> Result<(), Error> {
        if elements.is_empty() {
            return Ok(());
        }
        let (keys, values): (Vec<[u8; K]>, Vec<[u8; V]>) = elements.iter().copied().unzip();
        let mut call = self.batch(&keys).pointer(24, values.as_ptr());
        // SAFETY: the kernel reads as many keys and values as there are.
        let done = unsafe { call.run(MAP_UPDATE_BATCH) };
        done.map(drop).map_err(failed(format!("add to the BPF map {}", self.name)))
    }

    /// Removes elements; those that are not there are fine.
    pub(crate) fn delete(&self, mut keys: &[[u8; K]]) -> Result<(), Error> {
        while !keys.is_empty() {
            let mut call = self.batch(keys);
            // SAFETY: the kernel reads as many keys as there are.
            match unsafe { call.run(MAP_DELETE_BATCH) } {
                // The kernel stops at a key that is not there, and says how far it came.
                Err(error) if error.kind() == io::ErrorKind::NotFound => keys = &keys[call.read(32) as usize + 1..],
                done => return done.map(drop).map_err(failed(format!("remove from the BPF map {}", self.name))),
            }
        }
        Ok(())
    }

    fn batch(&self, keys: &[[u8; K]]) -> Call {
        Call::new().pointer(16, keys.as_ptr()).number(32, keys.len() as u32).descriptor(36, self)
    }
}

/// What the kernel tells about a map or program, the first `N` bytes.
fn information<const N: usize>(of: &impl AsRawFd) -> io::Result<[u8; N]> {
    let mut info = [0; N];
    let mut call = Call::new().descriptor(0, of).number(4, N as u32).pointer(8, info.as_mut_ptr());
    // SAFETY: the kernel writes at most N bytes, and reads those as zeroes.
    unsafe { call.run(INFO) }?;
    Ok(info)
}

/// The maps that a program uses.
pub(crate) fn maps_of(program: &OwnedFd) -> Vec<OwnedFd> {
    let mut ids = [0_u32; MAPS];
    let mut info = [0_u8; 64];
    info[52..56].copy_from_slice(&(MAPS as u32).to_ne_bytes());
    info[56..64].copy_from_slice(&(ids.as_mut_ptr() as u64).to_ne_bytes());
    let mut call = Call::new().descriptor(0, program).number(4, 64).pointer(8, info.as_mut_ptr());
    // SAFETY: the kernel writes 64 bytes, and as many ids as fit.
    if unsafe { call.run(INFO) }.is_err() {
        return Vec::new();
    }
    // SAFETY: there are no pointers in it.
    let open = |id: &u32| unsafe { Call::new().number(0, *id).open(MAP_BY_ID) }.ok();
    ids.iter().take(number(&info, 52) as usize).filter_map(open).collect()
}

/// Has the kernel verify a program for a hook (`enum bpf_attach_type`).
pub(crate) fn load(name: &str, attach: u32, code: &[Instruction]) -> Result<OwnedFd, Error> {
    let licence = c"Apache-2.0";
    let mut call = Call::new().number(0, SOCKET_ADDRESS).number(4, code.len() as u32).pointer(8, code.as_ptr());
    call = call.pointer(16, licence.as_ptr()).bytes(48, name.as_bytes()).number(68, attach);
    // SAFETY: the kernel reads as many instructions as there are, and a text that ends.
    let loaded = unsafe { call.open(PROG_LOAD) };
    loaded.map_err(failed(format!("load the BPF program {name}")))
}

/// The programs at a cgroup's hook.
pub(crate) fn attached(cgroup: &File, attach: u32) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; ATTACHED];
    let mut call = Call::new().descriptor(0, cgroup).number(4, attach);
    call = call.pointer(16, ids.as_mut_ptr()).number(24, ATTACHED as u32);
    // SAFETY: the kernel writes at most as many ids as there is room for.
    unsafe { call.run(PROG_QUERY) }?;
    let count = call.read(24) as usize;
    // SAFETY: there are no pointers in it.
    let open = |id: &u32| unsafe { Call::new().number(0, *id).open(PROG_BY_ID) };
    ids.iter().take(count).map(open).collect()
}

/// Attaches a program to a cgroup and those below it, in the place of the one that is there.
pub(crate) fn attach(cgroup: &File, attach: u32, program: &OwnedFd) -> Result<(), Error> {
    let doing = "attach a BPF program to the cgroup of the pods";
    let old = attached(cgroup, attach).map_err(failed(doing))?;
    let mut call = Call::new().descriptor(0, cgroup).descriptor(4, program).number(8, attach);
    call = match old.first() {
        Some(old) => call.number(12, MULTI | REPLACE).descriptor(16, old),
        None => call.number(12, MULTI),
    };
    // SAFETY: there are no pointers in it.
    unsafe { call.run(PROG_ATTACH) }.map(drop).map_err(failed(doing))
}

/// Takes the programs of one hook off a cgroup.
pub(crate) fn detach(cgroup: &File, attach: u32) -> Result<(), Error> {
    let doing = "take a BPF program off the cgroup of the pods";
    for program in attached(cgroup, attach).map_err(failed(doing))? {
        let mut call = Call::new().descriptor(0, cgroup).descriptor(4, &program).number(8, attach);
        // SAFETY: there are no pointers in it.
        unsafe { call.run(PROG_DETACH) }.map_err(failed(doing))?;
    }
    Ok(())
}
