//! The control socket with real clients: good ones, slow ones and hostile ones.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use twobox::console::client::{Conversation, Failure};
use twobox::console::control::{Call, Progress, Reply, Request};
use twobox::console::server;

/// Binds while no other test of this process does: the mode comes from the process-wide umask.
fn bind(path: &Path) -> std::io::Result<std::os::unix::net::UnixListener> {
    static UMASK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = UMASK.lock().unwrap();
    server::bind(path)
}

/// A daemon that answers `switchover` with a step and the end, and lets everything else drop.
fn daemon(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("twobox-control-{}-{name}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = bind(&path).unwrap();
    #[allow(clippy::disallowed_methods)] // the daemon under test
    std::thread::spawn(move || {
        let executor = Rc::new(smol::LocalExecutor::new());
        let (sender, calls) = smol::channel::bounded::<Call>(4);
        let listener = smol::Async::new(listener).unwrap();
        executor.spawn(server::serve(executor.clone(), listener, sender)).detach();
        smol::block_on(executor.run(async {
            while let Ok(call) = calls.recv().await {
                if matches!(call.request, Request::Switchover { .. }) {
                    let step = Progress { elapsed_us: 1, text: "services stopped".into(), ..Progress::default() };
                    call.replies.try_send(Reply::Progress(step)).unwrap();
                    call.replies.try_send(Reply::Done { text: "b serves".into() }).unwrap();
                }
            }
        }));
    });
    path
}

/// Sends raw bytes and returns all that comes back.
fn raw(path: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    // A refused client's rest meets a closed socket; what matters is the answer.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

#[test]
fn replies_come_in_order_and_end() {
    let path = daemon("order");
    let mut talk = Conversation::start(&path, &Request::Switchover { lose_changes: false }).unwrap();
    assert!(matches!(talk.next_reply().unwrap(), Reply::Progress(step) if step.text == "services stopped"));
    assert_eq!(talk.next_reply().unwrap(), Reply::Done { text: "b serves".into() });
    assert!(matches!(talk.next_reply(), Err(Failure::Died)));
}

#[test]
fn a_request_that_the_daemon_drops_is_told_as_such() {
    let path = daemon("drop");
    let mut talk = Conversation::start(&path, &Request::Release).unwrap();
    assert!(matches!(talk.next_reply(), Err(Failure::Died)));
}

#[test]
fn only_the_owner_may_open_the_socket() {
    let path = daemon("mode");
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_second_daemon_is_refused_and_a_leftover_is_replaced() {
    let path = daemon("second");
    assert_eq!(bind(&path).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);

    let leftover = std::env::temp_dir().join(format!("twobox-control-{}-leftover.sock", std::process::id()));
    drop(bind(&leftover).unwrap());
    drop(bind(&leftover).unwrap());
    std::fs::remove_file(&leftover).unwrap();
    std::fs::write(&leftover, "a file of somebody else").unwrap();
    assert_eq!(bind(&leftover).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    std::fs::remove_file(&leftover).unwrap();
}

#[test]
fn rubbish_is_refused_in_words() {
    let path = daemon("rubbish");
    assert!(raw(&path, b"{}\n").contains("not a request"));
    assert!(raw(&path, b"\xff\xfe\n").contains("not a request"));
    assert!(raw(&path, b"{\"request\":\"switch").contains("before its newline"));
    assert!(raw(&path, &vec![b'x'; 20_000]).contains("longer than 8192"));
    let bell = r#"{"request":"hold","reason":"\u0007"}"#.to_owned() + "\n";
    assert!(raw(&path, bell.as_bytes()).contains("control characters"));
    // It still serves.
    assert!(raw(&path, b"{\"request\":\"switchover\"}\n").contains("b serves"));
}

#[test]
fn clients_that_say_nothing_do_not_lock_others_out_for_long() {
    let path = daemon("silent");
    let silent: Vec<_> = (0..server::CONNECTION_LIMIT).map(|_| UnixStream::connect(&path).unwrap()).collect();
    // They are dropped after five seconds, the client waits ten.
    let mut talk = Conversation::start(&path, &Request::Switchover { lose_changes: false }).unwrap();
    assert!(talk.next_reply().is_ok());
    drop(silent);
}

#[test]
fn a_missing_daemon_is_named_with_its_socket() {
    let path = Path::new("/nonexistent/twobox.sock");
    let failure = Conversation::start(path, &Request::Switchover { lose_changes: false }).unwrap_err();
    assert!(failure.to_string().contains("/nonexistent/twobox.sock"), "{failure}");
}
