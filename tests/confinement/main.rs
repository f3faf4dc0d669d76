//! What a child of the daemon that has been taken over can still do: a process that is confined as the mirror's is, and
//! then tries everything. Needs root.
#![allow(clippy::disallowed_methods)] // starts processes
#![allow(missing_docs)]

mod scene;
mod view;

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::sys::stat::{Mode, SFlag, mknod};
use scene::{Mounts, Scene, denied, in_a_process};
use twobox::confine::harden;
use twobox::mirror::control::{self, Link, LinkKey};
use twobox::observe::control::{Said, Settings, Told};
use twobox::update::child::{Order, Own, Report, Source};
use twobox::update::{bounds, transfer};

#[test]
fn everything_that_the_mirror_does_is_possible() {
    let scene = Scene::new("able");
    scene.confined(|home, confinement| {
        println!("{confinement}");
        let tree = home.join("data/tree");
        assert_eq!(fs::read(tree.join("file")).unwrap(), b"of the tree");
        let store = home.join("data/.twobox");
        fs::write(store.join("staged"), b"new").unwrap();
        std::os::unix::fs::chown(store.join("staged"), Some(1234), Some(5)).unwrap();
        fs::rename(store.join("staged"), tree.join("below/file")).unwrap();
        assert_eq!(fs::metadata(tree.join("below/file")).unwrap().uid(), 1234);
        fs::write(tree.join("below/file"), b"of another owner").unwrap();
        fs::hard_link(tree.join("file"), store.join("link")).unwrap();
        std::os::unix::fs::symlink("/etc", tree.join("symlink")).unwrap();
        nix::unistd::mkfifo(&tree.join("fifo"), Mode::S_IRUSR).unwrap();
        mknod(&tree.join("null"), SFlag::S_IFCHR, Mode::S_IRUSR, nix::sys::stat::makedev(1, 3)).unwrap();
        fs::remove_dir_all(tree.join("below")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || TcpStream::connect(address).unwrap());
        listener.accept().unwrap();
        thread.join().unwrap();
        twobox::mirror::watch::Watch::new(&tree, Vec::new()).unwrap().take().unwrap();
        twobox::mirror::index::Index::open(&store.join("index")).unwrap();
    });
}

#[test]
fn neither_the_key_nor_anything_else_outside_can_be_read_or_written() {
    let scene = Scene::new("files");
    scene.confined(|home, confinement| {
        if confinement.files.is_none() {
            return println!("this kernel has no landlock: nothing is shown");
        }
        denied(fs::read(home.join("etc/pair.key")));
        denied(fs::read("/etc/passwd"));
        denied(fs::write(home.join("etc/new"), b"x"));
        denied(fs::write("/tmp/twobox-confined", b"x"));
        denied(fs::OpenOptions::new().append(true).open(home.join("etc/pair.key")));
        denied(fs::remove_file(home.join("etc/pair.key")));
        denied(fs::rename(home.join("etc/pair.key"), home.join("data/tree/key")));
        denied(fs::hard_link(home.join("etc/pair.key"), home.join("data/tree/key")));
        denied(fs::read_dir(home));
        // By a link that it makes itself, and through another process's eyes.
        let link = home.join("data/tree/to-key");
        std::os::unix::fs::symlink(home.join("etc/pair.key"), &link).unwrap();
        denied(fs::read(&link));
        let parent = nix::unistd::getppid();
        denied(fs::read(format!("/proc/{parent}/environ")));
        denied(fs::OpenOptions::new().write(true).open(format!("/proc/{parent}/mem")));
        denied(fs::read(format!("/proc/{parent}/root{}", home.join("etc/pair.key").display())));
    });
}

#[test]
fn the_watchdog_and_disks_cannot_be_opened_by_any_name() {
    let scene = Scene::new("devices");
    scene.confined(|home, confinement| {
        let open = |path: &Path| fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path);
        if confinement.files.is_some() {
            denied(open(&home.join("etc/watchdog")));
            denied(open(Path::new("/dev/kmsg")));
            denied(open(Path::new("/dev/zero")));
        }
        // A node of its own in its own tree.
        assert!(confinement.calls && !confinement.devices, "{confinement}");
        for (kind, major, minor) in DANGEROUS {
            denied(make(home, kind, major, minor));
        }
        make(home, SFlag::S_IFCHR, 1, 5).unwrap();
    });
}

const DANGEROUS: [(SFlag, u64, u64); 9] = [
    (SFlag::S_IFCHR, 10, 130), // watchdog
    (SFlag::S_IFCHR, 248, 0),  // watchdog0, by the number that it often has
    (SFlag::S_IFCHR, 1, 1),    // mem
    (SFlag::S_IFCHR, 1, 4),    // port
    (SFlag::S_IFCHR, 1, 11),   // kmsg
    (SFlag::S_IFCHR, 4, 64),   // ttyS0
    (SFlag::S_IFBLK, 8, 0),    // sda
    (SFlag::S_IFBLK, 1, 3),
    (SFlag::S_IFCHR, 0x101, 3), // a large number whose lower bits are harmless
];

/// Makes a device node in the tree and returns its path.
fn make(home: &Path, kind: SFlag, major: u64, minor: u64) -> io::Result<PathBuf> {
    let path = home.join(format!("data/tree/{}-{major}-{minor}", kind.bits()));
    mknod(&path, kind, Mode::S_IRUSR | Mode::S_IWUSR, nix::sys::stat::makedev(major, minor))?;
    Ok(path)
}

#[test]
fn device_nodes_are_copied_where_they_cannot_be_opened() {
    for mounts in [Mounts::Shared, Mounts::NoDevices] {
        let scene = Scene::on(mounts, "nodes");
        scene.confined(|home, confinement| {
            assert!(confinement.calls && confinement.devices, "{confinement}");
            for (kind, major, minor) in DANGEROUS.into_iter().chain([(SFlag::S_IFCHR, 1, 5)]) {
                let path = make(home, kind, major, minor).unwrap();
                for write in [false, true] {
                    let mut options = fs::OpenOptions::new();
                    denied(options.read(!write).write(write).custom_flags(libc::O_NONBLOCK).open(&path));
                }
                fs::rename(&path, home.join("data/tree/below/node")).unwrap();
            }
        });
    }
}

#[test]
fn neither_addresses_nor_other_processes_nor_the_machine_are_within_reach() {
    let scene = Scene::new("machine");
    let control = scene.home.join("control.sock");
    let _listening = std::os::unix::net::UnixListener::bind(&control).unwrap();
    scene.confined(|_, confinement| {
        assert!(confinement.capabilities && confinement.calls);
        let new =
            |family, protocol| socket(family, SockType::Raw, SockFlag::empty(), protocol).map_err(io::Error::from);
        denied(new(AddressFamily::Netlink, Some(SockProtocol::NetlinkRoute)));
        denied(new(AddressFamily::Packet, None));
        denied(new(AddressFamily::Inet, Some(SockProtocol::Icmp)));
        denied(UnixStream::connect(&control)); // the operator's socket
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        #[allow(unsafe_code)]
        // SAFETY: all zeroes are a value of this structure; the calls read it only.
        unsafe {
            let mut request: libc::ifreq = std::mem::zeroed();
            request.ifr_name[0] = b'l' as libc::c_char;
            request.ifr_name[1] = b'o' as libc::c_char;
            for change in [libc::SIOCSIFADDR, libc::SIOCSIFFLAGS] {
                assert_eq!(libc::ioctl(socket.as_raw_fd(), change as _, &raw mut request), -1);
                denied(Err::<(), _>(io::Error::last_os_error()));
            }
        }
        denied(Command::new("/bin/true").status());
        let parent = nix::unistd::getppid();
        denied(nix::sys::signal::kill(parent, nix::sys::signal::Signal::SIGURG).map_err(io::Error::from));
        #[allow(unsafe_code)]
        // SAFETY: this request takes no memory.
        let attached = unsafe { libc::ptrace(libc::PTRACE_ATTACH, parent.as_raw(), 0, 0) };
        assert_eq!(attached, -1);
        denied(Err::<(), _>(io::Error::last_os_error()));
        denied(nix::sys::reboot::set_cad_enabled(false).map_err(io::Error::from));
        denied(nix::unistd::sethostname("taken").map_err(io::Error::from));
        denied(nix::sched::setns(socket, nix::sched::CloneFlags::empty()).map_err(io::Error::from));
        denied(nix::mount::umount("/proc").map_err(io::Error::from));
        denied(nix::unistd::chroot("/").map_err(io::Error::from));
        let realtime = nix::time::ClockId::CLOCK_REALTIME;
        let now = nix::time::clock_gettime(realtime).unwrap();
        denied(nix::time::clock_settime(realtime, now).map_err(io::Error::from));
    });
}

/// The owner of a descriptor is sent a signal of anybody's choice when something comes: kill(2) by another door.
#[test]
fn no_descriptor_has_the_kernel_send_signals() {
    const F_SETSIG: libc::c_int = 10;
    const F_SETOWN_EX: libc::c_int = 15;
    let scene = Scene::new("owner");
    let mut victim = Command::new("sleep").arg("60").spawn().unwrap();
    let number = libc::c_long::from(victim.id());
    scene.confined(|_, confinement| {
        assert!(confinement.calls);
        let (read, write) = nix::unistd::pipe().unwrap();
        #[allow(unsafe_code)]
        // SAFETY: numbers, and for the last one a structure of two that lives until the call returns.
        let asked = unsafe {
            let owner = [1, libc::c_int::try_from(number).unwrap()]; // struct f_owner_ex: F_OWNER_PID and the process
            [
                libc::fcntl(read.as_raw_fd(), libc::F_SETOWN, number),
                libc::fcntl(read.as_raw_fd(), F_SETSIG, libc::c_long::from(libc::SIGKILL)),
                libc::fcntl(read.as_raw_fd(), F_SETOWN_EX, owner.as_ptr()),
            ]
        };
        #[allow(unsafe_code)]
        // SAFETY: numbers alone.
        let _ = unsafe { libc::fcntl(read.as_raw_fd(), libc::F_SETFL, libc::O_ASYNC) };
        nix::unistd::write(&write, b"x").unwrap();
        assert_eq!(asked, [-1; 3]);
    });
    // A signal would have been there before the process that asked for it was gone.
    let lives = victim.try_wait().unwrap().is_none();
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(lives, "it was killed");
}

#[test]
fn a_watch_only_hears() {
    let scene = Scene::new("watch");
    scene.confined(|home, confinement| {
        assert!(confinement.calls);
        use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags};
        let events = EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC;
        let by_name = InitFlags::from_bits_retain(0xc00); // FAN_REPORT_DFID_NAME
        let unlimited = InitFlags::FAN_UNLIMITED_QUEUE | InitFlags::FAN_UNLIMITED_MARKS;
        for flags in [
            InitFlags::FAN_CLASS_CONTENT,
            InitFlags::FAN_CLASS_PRE_CONTENT,
            InitFlags::FAN_CLASS_CONTENT | by_name,
            InitFlags::FAN_CLASS_NOTIF, // opens what it tells of
            by_name | unlimited,
        ] {
            denied(Fanotify::init(flags, events).map_err(io::Error::from));
        }
        twobox::mirror::watch::Watch::new(&home.join("data/tree"), Vec::new()).unwrap();
    });
}

/// Of files that cannot be opened; before its version 3 landlock does not know this way.
#[test]
fn nothing_is_cut_by_its_name() {
    let scene = Scene::new("cut");
    scene.confined(|home, confinement| {
        assert!(confinement.calls);
        denied(nix::unistd::truncate(&home.join("etc/pair.key"), 0).map_err(io::Error::from));
    });
    assert_eq!(fs::read(scene.home.join("etc/pair.key")).unwrap(), b"secret");
}

#[test]
fn whoever_takes_over_the_console_can_speak_as_an_operator_and_nothing_else() {
    let scene = Scene::new("console");
    let control = scene.home.join("control.sock");
    let _listening = std::os::unix::net::UnixListener::bind(&control).unwrap();
    let hash = scene.home.join("etc/password");
    fs::write(&hash, "hash").unwrap();
    in_a_process(|| {
        harden().unwrap();
        let confinement = twobox::console::bounds::confine_to(Some(&hash)).unwrap();
        assert!(confinement.capabilities && confinement.calls, "{confinement}");
        UnixStream::connect(&control).unwrap();
        assert_eq!(fs::read(&hash).unwrap(), b"hash");
        if confinement.files.is_some() {
            denied(fs::read(scene.home.join("etc/pair.key")));
            denied(fs::write(&hash, "another"));
            let watchdog = scene.home.join("etc/watchdog");
            denied(fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(watchdog));
            denied(fs::read(format!("/proc/{}/environ", nix::unistd::getppid())));
        }
        denied(fs::remove_file(&hash));
        for family in [AddressFamily::Netlink, AddressFamily::Packet, AddressFamily::Inet, AddressFamily::Inet6] {
            denied(socket(family, SockType::Raw, SockFlag::empty(), None).map_err(io::Error::from));
        }
        denied(UdpSocket::bind("127.0.0.1:0"));
        denied(Command::new("/bin/true").status());
        denied(
            nix::sys::signal::kill(nix::unistd::getppid(), nix::sys::signal::Signal::SIGURG).map_err(io::Error::from),
        );
        denied(nix::sys::reboot::set_cad_enabled(false).map_err(io::Error::from));
        denied(nix::mount::umount("/proc").map_err(io::Error::from));
    });
}

/// Under a service manager that leaves the daemon few of root's powers, as it may.
#[test]
fn whoever_watches_is_confined_also_where_it_cannot_become_another_user() {
    in_a_process(|| {
        twobox::confine::capability::keep(&[]).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_twobox"))
            .arg("observe-child")
            .stdin(std::process::Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        let settings = Settings { listen: vec!["127.0.0.1:0".parse().unwrap()], ..Settings::default() };
        control::write(&mut &ours, &Told::Start { settings }).unwrap();
        let first = control::read::<Said>(&mut io::BufReader::new(&ours)).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        drop(ours);
        process.wait().unwrap();
        let Some(Said::Confined { by }) = first else { panic!("{first:?}") };
        assert!(by.contains("calls") && by.contains("still as root"), "{by}");
        assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"), "{status}");
    });
}

/// Whatever it was told to do, an image that is read wrong gives nobody more than the slots.
#[test]
fn whoever_takes_over_the_update_reaches_the_slots_and_nothing_else() {
    let scene = Scene::on(Mounts::NoDevices, "update");
    let control = scene.home.join("control.sock");
    let _listening = std::os::unix::net::UnixListener::bind(&control).unwrap();
    let own = || Own { board: "box".into(), running: "hash".into(), anew: false };
    let (image, esp) = (scene.home.join("etc/image"), scene.home.join("etc/esp"));
    fs::write(&image, "image").unwrap();
    let peer = || Source::Peer { links: Vec::new(), key: LinkKey::default() };
    let orders = [
        Order::Check { image: image.clone(), wanted: own() },
        Order::Offer { image: image.clone(), links: Vec::new(), key: LinkKey::default() },
        Order::Confirm { esp: esp.clone(), running: "hash".into() },
        Order::Install { source: Source::File(image.clone()), esp: esp.clone(), wanted: own() },
        Order::Install { source: peer(), esp: esp.clone(), wanted: own() },
        Order::Retire { esp: esp.clone() },
        Order::Look { esp },
    ];
    for (number, order) in orders.into_iter().enumerate() {
        let (writes, speaks, looks) = ((2..6).contains(&number), matches!(number, 1 | 4), number == 6);
        in_a_process(|| {
            scene.mount();
            harden().unwrap();
            let slots = scene.home.join("data/tree");
            fs::write(slots.join("twobox-1.efi"), b"image").unwrap();
            let confinement = bounds::confine_for(&order, (writes || looks).then_some(slots.as_path())).unwrap();
            assert!(confinement.capabilities && confinement.calls && confinement.devices, "{confinement}");
            let draft = fs::write(slots.join("twobox-2.new"), b"draft");
            if writes {
                draft.unwrap();
                fs::rename(slots.join("twobox-2.new"), slots.join("twobox-2+1.efi")).unwrap();
                fs::File::open(&slots).unwrap().sync_all().unwrap();
                denied(make(&scene.home, SFlag::S_IFBLK, 8, 0));
            } else {
                denied(draft);
            }
            if looks {
                let names: Vec<_> = fs::read_dir(&slots).unwrap().map(|entry| entry.unwrap().path()).collect();
                let files = names.iter().filter(|path| path.is_file()).map(|path| fs::read(path).unwrap());
                assert!(files.count() > 0, "{names:?}");
            }
            if confinement.files.is_some() {
                denied(fs::read(scene.home.join("etc/pair.key")));
                denied(fs::read(&image)); // it is open already
                denied(fs::read("/etc/passwd"));
                denied(fs::read(format!("/proc/{}/environ", nix::unistd::getppid())));
                let watchdog = scene.home.join("etc/watchdog");
                denied(fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(watchdog));
            }
            denied(fs::write(scene.home.join("etc/pair.key"), "another"));
            let udp = UdpSocket::bind("127.0.0.1:0");
            if speaks {
                udp.unwrap();
            } else {
                denied(udp);
            }
            for (family, protocol) in [
                (AddressFamily::Netlink, Some(SockProtocol::NetlinkRoute)),
                (AddressFamily::Packet, None),
                (AddressFamily::Inet, Some(SockProtocol::Icmp)),
            ] {
                denied(socket(family, SockType::Raw, SockFlag::empty(), protocol).map_err(io::Error::from));
            }
            denied(UnixStream::connect(&control));
            denied(Command::new("/bin/true").status());
            let parent = nix::unistd::getppid();
            denied(nix::sys::signal::kill(parent, nix::sys::signal::Signal::SIGURG).map_err(io::Error::from));
            denied(nix::sys::reboot::set_cad_enabled(false).map_err(io::Error::from));
            denied(nix::mount::umount("/proc").map_err(io::Error::from));
            denied(nix::sched::unshare(CloneFlags::CLONE_NEWNS).map_err(io::Error::from));
        });
    }
}

/// The program itself, as the daemon starts it: it gives an image to the peer while it is confined, and never has the pair's key.
#[test]
fn a_confined_update_offers_an_image() {
    let scene = Scene::new("offer");
    let image = scene.home.join("etc/image");
    let content: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    fs::write(&image, &content).unwrap();
    in_a_process(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_twobox"))
            .arg("update-child")
            .stdin(std::process::Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        let key = transfer::link_key(&[7; 32]);
        let links = vec![Link::Address(std::net::SocketAddr::from(([127, 0, 0, 1], transfer::PORT)))];
        let order = Order::Offer { image: image.clone(), links: links.clone(), key: LinkKey(key) };
        control::write(&mut &ours, &order).unwrap();
        let mut reports = io::BufReader::new(&ours);
        let first = control::read::<Report>(&mut reports).unwrap();
        let Some(Report::Confined { by }) = first else { panic!("{first:?}") };
        assert!(by.contains("capabilities") && by.contains("calls"), "{by}");
        let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        assert!(status.contains("NoNewPrivs:\t1") && status.contains("CapEff:\t0000000000000000"), "{status}");
        let mut fetched = transfer::fetch(&links, &key, std::time::Duration::from_secs(30)).unwrap();
        let mut came = Vec::new();
        io::Read::read_to_end(&mut fetched, &mut came).unwrap();
        assert!(came == content);
        drop(fetched);
        while let Some(report) = control::read::<Report>(&mut reports).unwrap() {
            assert!(!matches!(report, Report::Refused { .. }), "{report:?}");
        }
        assert!(process.wait().unwrap().success());
    });
}
