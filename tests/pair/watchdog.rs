//! A watchdog whose device takes its time, as a management controller does: this kernel has none, so a program that starts the
//! daemon answers its calls of the driver.

use std::fs;
use std::thread::sleep;

use twobox::console::status::{BoundBy, Role};
use twobox::time::Duration;

use crate::rig::{Rig, wait};
use crate::{DEFAULT, LEASE};

/// Has the calls for a watchdog of the program that it becomes answered by a child of its own (SECCOMP_RET_USER_NOTIF, seccomp(2)).
/// Each feed takes as many seconds as stand in the file `PACE`.
const CONTROLLER: &str = r#"
import ctypes, fcntl, os, platform, socket, struct, sys, time
pace, command = sys.argv[1], sys.argv[2:]
libc = ctypes.CDLL(None, use_errno=True)
IOCTL, SECCOMP = {"x86_64": (16, 317), "aarch64": (29, 277)}[platform.machine()]
SUPPORT, BOOT_STATUS, KEEP_ALIVE, SET_TIMEOUT, GET_TIMEOUT = 0x80285700, 0x80045702, 0x80045705, 0xc0045706, 0x80045707
RECEIVE, SEND = 0xc0502100, 0xc0182101
ours, theirs = socket.socketpair()
if os.fork():
    calls = [SUPPORT, BOOT_STATUS, KEEP_ALIVE, SET_TIMEOUT, GET_TIMEOUT]
    code = [(0x20, 0, 0, 0), (0x15, 0, len(calls) + 1, IOCTL), (0x20, 0, 0, 24)]
    code += [(0x15, len(calls) - i, 0, call) for i, call in enumerate(calls)]
    code += [(0x06, 0, 0, 0x7fff0000), (0x06, 0, 0, 0x7fc00000)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(program)))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    listener = libc.syscall(SECCOMP, 1, 8, head)
    assert listener >= 0, os.strerror(ctypes.get_errno())
    socket.send_fds(theirs, [b"."], [listener])
    os.execvp(command[0], command)
theirs.close()
listener = socket.recv_fds(ours, 1, 1)[1][0]
while True:
    call = bytearray(80)
    try:
        fcntl.ioctl(listener, RECEIVE, call)
    except OSError:
        if not os.path.exists(f"/proc/{os.getppid()}/exe") or os.getppid() == 1:
            break
        continue
    number, pid = struct.unpack_from("QI", call)
    request, pointer = struct.unpack_from("QQ", call, 40)
    answer = {
        SUPPORT: struct.pack("II32s", 0x8180, 0, b"slow controller"),
        BOOT_STATUS: struct.pack("i", 0),
        GET_TIMEOUT: struct.pack("i", 2),
    }.get(request & 0xffffffff)
    if answer:
        with open(f"/proc/{pid}/mem", "wb", 0) as memory:
            memory.seek(pointer)
            memory.write(answer)
    elif request & 0xffffffff == KEEP_ALIVE:
        time.sleep(float(open(pace).read()))
    try:
        fcntl.ioctl(listener, SEND, bytearray(struct.pack("QqiI", number, 0, 0, 0)))
    except OSError:
        pass  # whoever asked has ended
"#;

/// Gives both boxes the watchdog; the file that tells its pace.
fn put_in(rig: &mut Rig, without: &[&str]) -> std::path::PathBuf {
    let [program, pace, device] = ["controller.py", "pace", "watchdog"].map(|name| rig.dir.join(name));
    fs::write(&program, CONTROLLER).unwrap();
    fs::write(&pace, "0").unwrap();
    fs::write(&device, "").unwrap();
    for node in ["a", "b"] {
        let board = rig.path(node, "board.toml");
        let text = fs::read_to_string(&board).unwrap();
        let watchdog = "[watchdog]\ndevice = \"DEVICE\"\nfiring = \"115%\"\nreset-time = \"100ms\"\n";
        fs::write(&board, text + &watchdog.replace("DEVICE", &device.display().to_string())).unwrap();
    }
    let started_by = ["/usr/bin/python3", program.to_str().unwrap(), pace.to_str().unwrap()];
    rig.started_by = started_by.iter().chain(without).map(|&word| word.to_owned()).collect();
    pace
}

/// Each feed takes longer than the lease: no heartbeat is late for it, and nothing moves.
#[test]
fn a_controller_that_takes_a_second_for_each_feed_delays_no_heartbeat() {
    let mut rig = Rig::new("slowdog", DEFAULT);
    let pace = put_in(&mut rig, &[]);
    let active = rig.start_both();
    let before = rig.status(active).unwrap();
    fs::write(&pace, "1").unwrap();
    sleep(LEASE * 10);
    let status = rig.status(active).unwrap();
    assert_eq!((status.role, status.term), (Role::Active, before.term), "{}", rig.log(active));
    assert!(rig.in_touch());
    assert!(!rig.log(active).contains("cannot be fed") && !rig.log(active).contains("counts for nothing"));
    assert_eq!(rig.capture.owners(), [active]);
    // It ends in order, after the feed that is under way.
    rig.signal(active, nix::sys::signal::Signal::SIGTERM);
    assert!(rig.end_of(active).success(), "{}", rig.log(active));
}

/// A controller that does not answer has not reset the box either when the time for that is over: nobody counts on it any more.
#[test]
fn a_watchdog_that_neither_answers_nor_fires_bounds_nothing() {
    let mut rig = Rig::new("deaddog", DEFAULT);
    let pace = put_in(&mut rig, &["setpriv", "--bounding-set", "-bpf,-sys_admin,-perfmon"]);
    let active = rig.start_both();
    let bound = |rig: &Rig| rig.status(active).map(|s| (s.fence.bound_by, s.fence.bound_ms)).unwrap();
    assert_eq!(bound(&rig), (BoundBy::Watchdog, Some(4700)));
    fs::write(&pace, "8").unwrap();
    wait("it is no belt any more", || bound(&rig).0 == BoundBy::AddressLease);
    assert!(rig.log(active).contains("has not fired: it counts for nothing"), "{}", rig.log(active));
    assert_eq!(bound(&rig).1, Some(6000));
    fs::write(&pace, "0").unwrap();
    sleep(Duration::from_secs(1));
    assert_eq!(bound(&rig).0, BoundBy::AddressLease, "nor when it answers again");
}
