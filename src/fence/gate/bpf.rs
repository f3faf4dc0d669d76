//! bpf(2) by hand: one map, programs of the classifier type, the tcx hooks, test runs.
//!
//! Structures are those of `union bpf_attr` in the kernel's include/uapi/linux/bpf.h. The kernel takes a shorter structure
//! than its own, and a longer one whose surplus is zero.
#![allow(unsafe_code)] // the system call and the shared mapping have no safe form

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::layout::{self, Direction};

const MAP_CREATE: libc::c_int = 0;
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_TEST_RUN: libc::c_int = 10;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;

const MAP_TYPE_ARRAY: u32 = 2;
const MAP_MMAPABLE: u32 = 1 << 10;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const FLAG_BEFORE: u32 = 1 << 3;
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;

/// One call. `T` must be the part of `union bpf_attr` that belongs to `command`, without padding.
fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: `attr` is a live, initialised structure of the size told; addresses in it belong to buffers that the
    // callers in this file keep alive over the call, with their true lengths beside them.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

fn bpf_fd<T>(command: libc::c_int, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the command returned a new descriptor (close-on-exec by itself) that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn address<T>(buffer: &T) -> u64 {
    std::ptr::from_ref(buffer) as usize as u64
}

fn name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    let length = text.len().min(15);
    name[..length].copy_from_slice(&text.as_bytes()[..length]);
    name
}

/// The map's one value, mapped into this process: every access is a plain memory access, no system call.
pub struct Map {
    fd: OwnedFd,
    words: NonNull<AtomicU64>,
    id: u32,
}

// SAFETY: the mapping belongs to this value alone, is unmapped only in `drop`, and is accessed through atomics.
unsafe impl Send for Map {}
// SAFETY: as above; several threads may read and write the words, which are atomics, at once.
unsafe impl Sync for Map {}

const BYTES: usize = layout::WORDS * 8;

impl Map {
    /// A new map, all words zero (so the gate on it is closed).
    ///
    /// # Errors
    /// EPERM without CAP_BPF or CAP_SYS_ADMIN, ENOSYS without bpf(2), EINVAL before kernel 5.5.
    pub fn create() -> io::Result<Map> {
        #[repr(C)]
        struct Attr {
            map_type: u32,
            key_size: u32,
            value_size: u32,
            max_entries: u32,
            map_flags: u32,
            inner_map_fd: u32,
            numa_node: u32,
            map_name: [u8; 16],
        }
        let mut attr = Attr {
            map_type: MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: BYTES as u32,
            max_entries: 1,
            map_flags: MAP_MMAPABLE,
            inner_map_fd: 0,
            numa_node: 0,
            map_name: name("twobox_gate"),
        };
        let fd = bpf_fd(MAP_CREATE, &mut attr)?;
        let id = map_id(&fd)?;
        // SAFETY: a new shared mapping of a descriptor that we own, at an address of the kernel's choice.
        let at = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), BYTES, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let words = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("the map was mapped at address 0"))?;
        Ok(Map { fd, words, id })
    }

    /// The kernel's number of the map.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its descriptor.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Word `index` of the value.
    ///
    /// # Panics
    /// Beyond [`layout::WORDS`].
    #[must_use]
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < layout::WORDS);
        // SAFETY: the mapping is at least BYTES long, page-aligned, lives as long as `self`, and the kernel writes it
        // only by whole aligned words.
        unsafe { self.words.add(index).as_ref() }
    }

    /// Word `index` now.
    #[must_use]
    pub fn read(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Acquire)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by `create` with this length; no reference outlives `self`.
        unsafe { libc::munmap(self.words.as_ptr().cast(), BYTES) };
    }
}

/// The first fields of `struct bpf_prog_info`, as far as they are read here.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_len: u32,
    xlated_len: u32,
    jited_insns: u64,
    xlated_insns: u64,
    load_time: u64,
    created_by_uid: u32,
    map_count: u32,
    map_ids: u64,
    name: [u8; 16],
}

fn object_info<T>(fd: &OwnedFd, info: &mut T) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        fd: u32,
        length: u32,
        info: u64,
    }
    let info_at = std::ptr::from_mut(info) as usize as u64;
    let mut attr = Attr { fd: fd.as_raw_fd().cast_unsigned(), length: size_of::<T>() as u32, info: info_at };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

fn map_id(fd: &OwnedFd) -> io::Result<u32> {
    let mut info = [0u32; 2]; // struct bpf_map_info: type, id
    object_info(fd, &mut info)?;
    Ok(info[1])
}

/// A loaded program. It lives as long as a descriptor or a hook holds it.
pub struct Program {
    fd: OwnedFd,
    id: u32,
}

/// What the kernel says of a program.
pub struct Described {
    /// Its name, at most 15 bytes.
    pub name: String,
    /// The maps it uses (only the first four are asked for).
    pub maps: Vec<u32>,
}

impl Program {
    /// Loads `code`, which the verifier proves safe first.
    ///
    /// # Errors
    /// EPERM without the capabilities; on a refusal by the verifier its log is in the message.
    pub fn load(program_name: &str, code: &[u64]) -> io::Result<Program> {
        #[repr(C)]
        struct Attr {
            prog_type: u32,
            insn_cnt: u32,
            insns: u64,
            license: u64,
            log_level: u32,
            log_size: u32,
            log_buf: u64,
            kern_version: u32,
            prog_flags: u32,
            prog_name: [u8; 16],
        }
        let license = *b"MIT OR Apache-2.0\0"; // no helper used here is restricted to the GPL
        let mut attr = Attr {
            prog_type: PROG_TYPE_SCHED_CLS,
            insn_cnt: u32::try_from(code.len()).map_err(io::Error::other)?,
            insns: code.as_ptr() as usize as u64,
            license: license.as_ptr() as usize as u64,
            log_level: 0,
            log_size: 0,
            log_buf: 0,
            kern_version: 0,
            prog_flags: 0,
            prog_name: name(program_name),
        };
        let fd = match bpf_fd(PROG_LOAD, &mut attr) {
            Ok(fd) => fd,
            Err(refused) => {
                // Once more with a log, only now: it costs time and memory.
                let mut log = vec![0u8; 1 << 20];
                attr.log_level = 1;
                attr.log_size = log.len() as u32;
                attr.log_buf = log.as_mut_ptr() as usize as u64;
                bpf_fd(PROG_LOAD, &mut attr).map_err(|_| with_log(&refused, &log))?
            }
        };
        let mut info = ProgramInfo::default();
        object_info(&fd, &mut info)?;
        Ok(Program { fd, id: info.id })
    }

    /// The kernel's number of the program.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its descriptor.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The program numbered `id`.
    ///
    /// # Errors
    /// ENOENT if there is none.
    pub fn open(id: u32) -> io::Result<Program> {
        let mut attr = [id, 0, 0];
        let fd = bpf_fd(PROG_GET_FD_BY_ID, &mut attr)?;
        Ok(Program { fd, id })
    }

    /// Name and maps.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn describe(&self) -> io::Result<Described> {
        let maps = [0u32; 4];
        let mut info = ProgramInfo { map_count: maps.len() as u32, map_ids: address(&maps), ..Default::default() };
        object_info(&self.fd, &mut info)?;
        let end = info.name.iter().position(|&b| b == 0).unwrap_or(info.name.len());
        // The kernel wrote into `maps` behind the compiler's back; read it as such.
        // SAFETY: `maps` is a live array of four words.
        let maps = unsafe { std::ptr::read_volatile(&raw const maps) };
        Ok(Described {
            name: String::from_utf8_lossy(&info.name[..end]).into_owned(),
            maps: maps[..maps.len().min(info.map_count as usize)].to_vec(),
        })
    }

    /// Runs the live program `repeat` times on `frame` (at least 14 bytes): its verdict, and how many nanoseconds a run took
    /// on average. The frame goes nowhere.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn test(&self, frame: &[u8], repeat: u32) -> io::Result<(i32, u32)> {
        #[repr(C)]
        struct Attr {
            prog_fd: u32,
            retval: u32,
            data_size_in: u32,
            data_size_out: u32,
            data_in: u64,
            data_out: u64,
            repeat: u32,
            duration: u32,
        }
        let mut attr = Attr {
            prog_fd: self.fd.as_raw_fd().cast_unsigned(),
            retval: 0,
            data_size_in: u32::try_from(frame.len()).map_err(io::Error::other)?,
            data_size_out: 0,
            data_in: frame.as_ptr() as usize as u64,
            data_out: 0,
            repeat,
            duration: 0,
        };
        bpf(PROG_TEST_RUN, &mut attr)?;
        Ok((attr.retval.cast_signed(), attr.duration))
    }
}

fn with_log(refused: &io::Error, log: &[u8]) -> io::Error {
    let end = log.iter().position(|&b| b == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    let tail: Vec<&str> = text.lines().rev().take(12).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    io::Error::new(refused.kind(), format!("the kernel refused the gate's program: {refused}\n{}", tail.join("\n")))
}

fn tcx(direction: Direction) -> u32 {
    match direction {
        Direction::Egress => TCX_EGRESS,
        Direction::Ingress => TCX_INGRESS,
    }
}

/// `struct { .. }` of BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
struct Attach {
    target_ifindex: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
    relative_fd: u32,
    expected_revision: u64,
}

impl Attach {
    fn new(index: u32, direction: Direction, program: &Program, flags: u32) -> Attach {
        Attach {
            target_ifindex: index,
            attach_bpf_fd: program.descriptor().cast_unsigned(),
            attach_type: tcx(direction),
            attach_flags: flags,
            replace_bpf_fd: 0,
            relative_fd: 0,
            expected_revision: 0,
        }
    }
}

/// Attaches `program` as the first on interface `index`; not as a link, so it stays when this process ends.
///
/// # Errors
/// EINVAL where the kernel has no tcx (before 6.6), ENODEV, EEXIST if it is attached already.
pub fn attach_first(index: u32, direction: Direction, program: &Program) -> io::Result<()> {
    bpf(PROG_ATTACH, &mut Attach::new(index, direction, program, FLAG_BEFORE)).map(drop)
}

/// Takes `program` off interface `index`.
///
/// # Errors
/// ENOENT if it is not there, EINVAL without tcx.
pub fn detach(index: u32, direction: Direction, program: &Program) -> io::Result<()> {
    bpf(PROG_DETACH, &mut Attach::new(index, direction, program, 0)).map(drop)
}

/// Numbers of the programs on interface `index`, in the order in which they run. Empty where the kernel has no tcx.
///
/// # Errors
/// ENODEV and the like.
pub fn attached(index: u32, direction: Direction) -> io::Result<Vec<u32>> {
    #[repr(C)]
    struct Attr {
        target_ifindex: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        count: u32,
        reserved: u32,
        prog_attach_flags: u64,
        link_ids: u64,
        link_attach_flags: u64,
        revision: u64,
    }
    let mut ids = [0u32; 64]; // BPF_MPROG_MAX is 64
    let mut attr = Attr {
        target_ifindex: index,
        attach_type: tcx(direction),
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as usize as u64,
        count: ids.len() as u32,
        reserved: 0,
        prog_attach_flags: 0,
        link_ids: 0,
        link_attach_flags: 0,
        revision: 0,
    };
    match bpf(PROG_QUERY, &mut attr) {
        Ok(_) => Ok(ids[..ids.len().min(attr.count as usize)].to_vec()),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}
