//! The child with this test as its daemon.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use twobox::clock;
use twobox::console::status::Status;
use twobox::observe::control::{Said, Settings, Told};

/// Generous: two noisy cores.
pub const PATIENCE: Duration = Duration::from_secs(40);

pub struct Desk {
    pub address: SocketAddr,
    child: Child,
    line: UnixStream,
    silent: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Desk {
    pub fn start(name: &str, status: Status) -> Self {
        Self::new(name, status, None)
    }

    pub fn with_syslog(name: &str, status: Status, to: SocketAddr) -> Self {
        Self::new(name, status, Some(to))
    }

    fn new(name: &str, status: Status, syslog: Option<SocketAddr>) -> Self {
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (line, theirs) = UnixStream::pair().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_twobox"))
            .arg("observe-child")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        let settings = Settings {
            listen: vec![address],
            syslog: syslog.map(|to| (to, SocketAddr::from(([127, 0, 0, 1], 0)))),
            pair: "office".into(),
            node: "a".into(),
        };
        let (silent, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let desk = Self { address, child, line, silent, asked };
        desk.tell(Told::Start { settings });
        let (mut answering, reading) = (desk.line.try_clone().unwrap(), desk.line.try_clone().unwrap());
        let (silent, asked) = (desk.silent.clone(), desk.asked.clone());
        let name = name.to_owned();
        std::thread::spawn(move || {
            for line in BufReader::new(reading).lines().map_while(Result::ok) {
                match serde_json::from_str(&line).unwrap() {
                    Said::Ask if silent.load(Ordering::Relaxed) => {}
                    Said::Ask => {
                        asked.fetch_add(1, Ordering::Relaxed);
                        let _ = send(&mut answering, &Told::Status { status: Some(Box::new(status.clone())) });
                    }
                    Said::Log { text } => println!("{name}: {text}"),
                    Said::Confined { by } => println!("{name}: confined by {by}"),
                }
            }
        });
        desk
    }

    pub fn tell(&self, told: Told) {
        send(&mut self.line.try_clone().unwrap(), &told).unwrap();
    }

    /// Answers no more.
    pub fn fall_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// Ends, as the child sees it.
    pub fn hang_up(&self) {
        self.line.shutdown(std::net::Shutdown::Both).unwrap();
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn end(&mut self) -> Option<i32> {
        let until = clock::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(clock::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn connect(&self) -> TcpStream {
        let until = clock::now() + PATIENCE;
        loop {
            match TcpStream::connect(self.address) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    return stream;
                }
                Err(error) => assert!(clock::now() < until, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The whole answer to a request.
    pub fn get(&self, request: &str) -> String {
        let mut stream = self.connect();
        let _ = stream.write_all(request.as_bytes()); // a long one is refused in the middle
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }
}

fn send(line: &mut UnixStream, told: &Told) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec(told)?;
    bytes.push(b'\n');
    line.write_all(&bytes)
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
