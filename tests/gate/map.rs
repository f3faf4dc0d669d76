//! The gate's map in the hands of another program.
#![allow(unsafe_code)] // bpf(2)

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Writes the first word of a map as anybody with the right to may, by the map's number.
pub fn overwrite(map: u32, expiry: u64) {
    let mut by_id = [map, 0, 0];
    // SAFETY: a live attribute of BPF_MAP_GET_FD_BY_ID (14) with its size.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, 14, by_id.as_mut_ptr(), size_of_val(&by_id)) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let key = 0u32;
    let mut value = [0u64; 64];
    value[0] = expiry;
    let mut update = [fd.as_raw_fd() as u64, &raw const key as u64, value.as_ptr() as u64, 0];
    // SAFETY: a live attribute of BPF_MAP_UPDATE_ELEM (2); key and value are as long as the map's.
    let done = unsafe { libc::syscall(libc::SYS_bpf, 2, update.as_mut_ptr(), size_of_val(&update)) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    // The first value of an array cannot be deleted, by nobody.
    let mut delete = [fd.as_raw_fd() as u64, &raw const key as u64];
    // SAFETY: a live attribute of BPF_MAP_DELETE_ELEM (3).
    let done = unsafe { libc::syscall(libc::SYS_bpf, 3, delete.as_mut_ptr(), size_of_val(&delete)) };
    assert_eq!(done, -1);
}
