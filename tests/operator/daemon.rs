//! A daemon for tests of what speaks to one: the real control socket before a made-up pair.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use twobox::console::control::{Call, Event, MirrorRequest, PeerRequest, Progress, Reply, Request};
use twobox::console::outcome::{Deletions, Difference, FoundBy, TreeOutcome, Verdict, What};
use twobox::console::server;
use twobox::console::status::Status;

/// A running daemon; it ends with the test's process.
pub struct Daemon {
    /// Where it listens.
    pub socket: PathBuf,
    /// What it shows from now on.
    pub status: Arc<Mutex<Status>>,
    /// What it was asked, statuses left out.
    pub asked: Arc<Mutex<Vec<Request>>>,
}

impl Daemon {
    /// Starts one with that status.
    pub fn start(name: &str, status: Status) -> Self {
        static UMASK: Mutex<()> = Mutex::new(());
        let socket = std::env::temp_dir().join(format!("twobox-daemon-{}-{name}.sock", std::process::id()));
        let _ = std::fs::remove_file(&socket);
        let guard = UMASK.lock().unwrap();
        let listener = server::bind(&socket).unwrap();
        drop(guard);
        let (status, asked) = (Arc::new(Mutex::new(status)), Arc::new(Mutex::new(Vec::new())));
        let (shown, heard) = (status.clone(), asked.clone());
        #[allow(clippy::disallowed_methods)] // the daemon under test
        std::thread::spawn(move || {
            let executor = Rc::new(smol::LocalExecutor::new());
            let (sender, calls) = smol::channel::bounded::<Call>(4);
            let listener = smol::Async::new(listener).unwrap();
            executor.spawn(server::serve(executor.clone(), listener, sender)).detach();
            smol::block_on(executor.run(async {
                while let Ok(call) = calls.recv().await {
                    executor.spawn(answer(call, shown.clone(), heard.clone())).detach();
                }
            }));
        });
        Self { socket, status, asked }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

async fn answer(call: Call, status: Arc<Mutex<Status>>, asked: Arc<Mutex<Vec<Request>>>) {
    // A client that has gone is all that an error can mean here.
    let send = |reply| call.replies.try_send(reply).map_err(|_| ());
    let done = |text: &str| send(Reply::Done { text: text.into() });
    let line = |text: &str| send(Reply::Line { text: text.into() });
    if !matches!(call.request, Request::Status { .. }) {
        asked.lock().unwrap().push(call.request.clone());
    }
    let _ = match &call.request {
        Request::Status { every_ms: Some(every) } => loop {
            let status = Box::new(status.lock().unwrap().clone());
            if send(Reply::Status { status }).is_err() {
                break Ok(());
            }
            smol::Timer::after(Duration::from_millis((*every).min(50))).await;
        },
        Request::Status { every_ms: None } | Request::Peer(PeerRequest::Status) => {
            let status = Box::new(status.lock().unwrap().clone());
            send(Reply::Status { status }).and_then(|()| done(""))
        }
        Request::Switchover { .. } => {
            for (elapsed_us, text) in [(900, "services stopped"), (1_700, "addresses down"), (4_250, "b serves")] {
                let _ = send(Reply::Progress(Progress { elapsed_us, text: text.into(), ..Progress::default() }));
            }
            done("b serves; outage 3.4 ms")
        }
        Request::Drill => send(Reply::Refused {
            reason: "/data/mail is not current".into(),
            remedy: "wait for the mirror, see `mirror status`".into(),
        }),
        Request::Log { follow: true, .. } => loop {
            if line("[12.3] node: a line of the log").is_err() {
                break Ok(());
            }
            smol::Timer::after(Duration::from_millis(50)).await;
        },
        Request::Log { .. } | Request::Peer(PeerRequest::Log { .. }) => {
            line("[12.3] node: standby -> active \x1b[2J").and_then(|()| done(""))
        }
        Request::History { .. } => {
            let handover = status.lock().unwrap().last_handover.clone();
            send(Reply::Event(Event { unix_s: Some(1_709_251_199), boot_ms: 5, boots_ago: 1, handover, alarm: None }))
                .and_then(|()| done(""))
        }
        Request::Mirror(MirrorRequest::Sync { tree: Some(tree), .. }) if tree == "/blocked" => {
            let _ = send(Reply::Deletions(deletions(tree)));
            let reason = "/blocked: 47100 of 48211 names would be deleted, more than max-delete allows".into();
            send(Reply::Refused { reason, remedy: "if it is meant: `mirror sync --confirm-delete`".into() })
        }
        Request::Mirror(MirrorRequest::Verify { tree }) => {
            let different = tree.as_deref() == Some("/rotten");
            for tree in ["/data/mail", tree.as_deref().unwrap_or("/data")] {
                let mut verdict =
                    Verdict { files_compared: 10, bytes_compared: 41_000_000, healed: true, ..Verdict::default() };
                if tree == "/rotten" {
                    verdict.different = 1;
                    verdict.differences = vec![Difference { path: "a/\x1b[2Jb".into(), what: What::Content }];
                }
                let _ = send(Reply::Tree(Box::new(TreeOutcome { verdict: Some(verdict), ..cycle(tree) })));
            }
            done(if different { "1 name differed, and is healed" } else { "both sides are equal" })
        }
        Request::Mirror(MirrorRequest::Sync { tree, confirm_delete }) => {
            let slowly = &(tree.as_deref() == Some("/slow"));
            if *confirm_delete {
                let _ = send(Reply::Deletions(Deletions { confirmed: true, ..deletions("/data/mail") }));
            }
            for half in 1..=2 {
                let _ = send(Reply::Progress(Progress {
                    elapsed_us: 1_000_000 * half,
                    text: String::new(),
                    done: Some(half * 500_000_000),
                    total: Some(1_000_000_000),
                    files: Some(half * 10),
                    files_total: Some(20),
                    rate: Some(250_000_000),
                    unit: "bytes".into(),
                }));
                if *slowly {
                    smol::Timer::after(Duration::from_millis(300)).await;
                }
            }
            let _ = send(Reply::Tree(Box::new(cycle("/data/mail"))));
            done("the standby is equal")
        }
        Request::Poweroff => {
            smol::Timer::after(Duration::from_secs(3600)).await;
            Ok(())
        }
        other => done(&format!("did {other:?}")),
    };
}

fn cycle(tree: &str) -> TreeOutcome {
    TreeOutcome {
        tree: tree.into(),
        files: 20,
        names: 23,
        bytes_read: 1_000_000_000,
        bytes_sent: 1_000_123,
        chunks_sent: 17,
        names_sent: 3,
        names_deleted: 2,
        found_by: FoundBy::Events,
        elapsed_us: 4_000_000,
        ..TreeOutcome::default()
    }
}

fn deletions(tree: &str) -> Deletions {
    Deletions {
        tree: tree.into(),
        confirmed: false,
        count: 47_100,
        of: 48_211,
        first: (0..100).map(|n| format!("cur/{n}")).collect(),
        file: "/data/.twobox/trees/0123/deletions".into(),
    }
}

/// The program under test.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_twobox"))
}
