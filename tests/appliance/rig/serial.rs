//! Serial cables: the null modem between the boxes, and the ports that the rig itself holds (console, agent).
//!
//! QEMU connects to us and reconnects when a box comes back; we always read, because a peer that does not read would
//! block the writer inside QEMU.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::timeline::Timeline;

/// One end of a cable, as QEMU sees it.
struct End {
    listener: UnixListener,
    stream: Option<UnixStream>,
}

impl End {
    fn bind(path: &Path) -> std::io::Result<End> {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(End { listener, stream: None })
    }

    /// What has arrived since the last call.
    fn read(&mut self) -> Vec<u8> {
        if let Ok((stream, _)) = self.listener.accept() {
            let _ = stream.set_nonblocking(true);
            self.stream = Some(stream); // a box that was switched on again
        }
        let mut bytes = vec![0; 4096];
        match self.stream.as_mut().map(|stream| stream.read(&mut bytes)) {
            Some(Ok(length)) if length > 0 => bytes.truncate(length),
            Some(Err(error)) if error.kind() == ErrorKind::WouldBlock => bytes.clear(),
            Some(_) => {
                self.stream = None;
                bytes.clear();
            }
            None => bytes.clear(),
        }
        bytes
    }

    fn write(&mut self, bytes: &[u8]) {
        // A full buffer loses bytes, as a line without flow control does.
        if let Some(stream) = self.stream.as_mut() {
            let _ = stream.write(bytes);
        }
    }
}

/// QEMU's option for the port that is bound at `path`.
pub fn chardev(id: &str, path: &Path) -> String {
    format!("socket,id={id},path={},server=off,reconnect=1", path.display())
}

/// The null modem cable.
pub struct NullModem {
    /// Where each box plugs in.
    pub paths: [PathBuf; 2],
    cut: Arc<AtomicBool>,
    /// What each box is sent that the other one has not said.
    noise: Arc<Mutex<[Vec<u8>; 2]>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NullModem {
    /// Lays the cable. Panic lines that pass are written into the timeline.
    #[allow(clippy::disallowed_methods)] // the rig's own thread
    pub fn start(directory: &Path, timeline: Timeline) -> std::io::Result<NullModem> {
        let paths = ["a", "b"].map(|node| directory.join(format!("null-modem-{node}")));
        let mut ends = [End::bind(&paths[0])?, End::bind(&paths[1])?];
        let (cut, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let noise: Arc<Mutex<[Vec<u8>; 2]>> = Arc::default();
        let (is_cut, stopped, made) = (cut.clone(), stop.clone(), noise.clone());
        let thread = std::thread::spawn(move || {
            let mut lines = [Lines::default(), Lines::default()];
            while !stopped.load(Ordering::Relaxed) {
                let mut idle = true;
                for from in [0, 1] {
                    let bytes = ends[from].read();
                    idle &= bytes.is_empty();
                    for line in lines[from].add(&bytes) {
                        if line.contains("Kernel panic") || line.contains("Rebooting in") {
                            timeline.add(["a", "b"][from], format!("null modem: {line}"));
                        }
                    }
                    if !is_cut.load(Ordering::Relaxed) {
                        ends[1 - from].write(&bytes);
                    }
                    let noise = std::mem::take(&mut made.lock().unwrap()[from]);
                    ends[from].write(&noise);
                }
                if idle {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        Ok(NullModem { paths, cut, noise, stop, thread: Some(thread) })
    }

    /// Pulls the cable, or plugs it in again.
    pub fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }

    /// A box hears these bytes, whether or not the cable is plugged in.
    pub fn disturb(&self, index: usize, bytes: &[u8]) {
        self.noise.lock().unwrap()[index].extend_from_slice(bytes);
    }
}

impl Drop for NullModem {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A port whose other end is the rig: everything that comes is a line of the timeline.
pub struct Port {
    /// Where the box plugs in.
    pub path: PathBuf,
    outgoing: Arc<Mutex<Vec<u8>>>,
    /// All that came, as it came.
    transcript: Arc<Mutex<Vec<u8>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Port {
    /// Holds the port; lines appear in the timeline as those of `who`.
    #[allow(clippy::disallowed_methods)] // the rig's own thread
    pub fn start(path: PathBuf, who: String, timeline: Timeline) -> std::io::Result<Port> {
        let mut end = End::bind(&path)?;
        let outgoing: Arc<Mutex<Vec<u8>>> = Arc::default();
        let transcript: Arc<Mutex<Vec<u8>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (to_send, all, stopped) = (outgoing.clone(), transcript.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut lines = Lines::default();
            while !stopped.load(Ordering::Relaxed) {
                let bytes = end.read();
                all.lock().unwrap().extend_from_slice(&bytes);
                for line in lines.add(&bytes) {
                    timeline.add(&who, line);
                }
                let waiting = std::mem::take(&mut *to_send.lock().unwrap());
                if waiting.is_empty() && bytes.is_empty() {
                    std::thread::sleep(Duration::from_millis(2));
                }
                end.write(&waiting);
            }
        });
        Ok(Port { path, outgoing, transcript, stop, thread: Some(thread) })
    }

    /// Types a line.
    pub fn send(&self, line: &str) {
        self.send_bytes(format!("{line}\n").as_bytes());
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&self, bytes: &[u8]) {
        self.outgoing.lock().unwrap().extend_from_slice(bytes);
    }

    /// All that came from byte `from` of the transcript on, and the transcript's length.
    pub fn shown(&self, from: usize) -> (usize, Vec<u8>) {
        let transcript = self.transcript.lock().unwrap();
        (transcript.len(), transcript[from..].to_vec())
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Bytes to lines of printable text; what is binary becomes nothing.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn add(&mut self, bytes: &[u8]) -> Vec<String> {
        const LONGEST: usize = 16_384; // a status
        let mut whole = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' | b'\r' | 0 => {
                    let line = String::from_utf8_lossy(&std::mem::take(&mut self.0)).into_owned();
                    if !line.trim().is_empty() {
                        whole.push(line.trim_end().to_owned());
                    }
                }
                b' '..=b'~' if self.0.len() < LONGEST => self.0.push(*byte),
                _ => {}
            }
        }
        whole
    }
}
