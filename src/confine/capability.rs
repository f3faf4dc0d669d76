//! Root's powers, one by one (capabilities(7)).
#![allow(unsafe_code)] // capset(2) and prctl(2) have no wrappers in nix

use std::io;

/// One of root's powers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Capability {
    /// Change owners.
    Chown = 0,
    /// Read and write whatever the mode says.
    DacOverride = 1,
    /// Open files by handle, enter directories whatever the mode says.
    DacReadSearch = 2,
    /// Change mode, times and attributes of files of others.
    Fowner = 3,
    /// Keep the set-id bits.
    Fsetid = 4,
    /// Watch a whole file system, read and write `trusted.` attributes.
    SysAdmin = 21,
    /// Use the blocks that are reserved for root.
    SysResource = 24,
    /// Make device nodes.
    Mknod = 27,
    /// Give files capabilities.
    Setfcap = 31,
}

/// Highest capability that is tried to drop: the kernel refuses those that it does not know.
const LAST: u32 = 63;

/// `struct __user_cap_header_struct` and two of `struct __user_cap_data_struct` (linux/capability.h).
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Drops all capabilities but these, in every set, for good. True: nothing else is left; always, unless the kernel has
/// something against it.
///
/// # Errors
///
/// What capset(2) says.
pub fn keep(wanted: &[Capability]) -> io::Result<bool> {
    let mask = wanted.iter().fold(0u64, |mask, capability| mask | 1 << (*capability as u32));
    let is_kept = |number: u32| mask >> number & 1 == 1;
    for number in (0..=LAST).filter(|&number| !is_kept(number)) {
        // SAFETY: plain numbers. EPERM without CAP_SETPCAP, EINVAL for what the kernel does not know: what is not
        // permitted below cannot come back, for no program may be given more rights.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
    }
    // SAFETY: plain numbers. EINVAL before Linux 4.3, which has no ambient capabilities.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: both structures are as the kernel wants them and live until the call returns.
    if unsafe { libc::syscall(libc::SYS_capget, &raw const header, &raw mut data) } != 0 {
        return Err(io::Error::last_os_error());
    }
    for (half, data) in data.iter_mut().enumerate() {
        let wanted = (mask >> (32 * half)) as u32;
        data.permitted &= wanted; // a process that has less cannot get more
        data.effective = data.permitted;
        data.inheritable = 0;
    }
    // SAFETY: as above.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const data) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(true)
}
