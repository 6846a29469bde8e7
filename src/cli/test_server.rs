//! For tests: a control socket whose answers are a test's own, and a run directory of its own.

use super::client::Client;
use crate::api::{PairFile, SCHEMA, Twin};
use crate::http::{Connection, JSON, Request};
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// What is done with a request.
pub enum Reply {
    /// A whole answer.
    Answer(u16, String),
    /// These bytes, then the connection is closed.
    Bytes(Vec<u8>),
    /// Nothing; the connection stays open.
    Hold,
    /// This answer to the first connection on hold, a plain one to this.
    Release(String),
}

/// A directory that is removed at the end.
pub struct RunDir(PathBuf);

impl RunDir {
    pub fn new() -> RunDir {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("nodemanager-cli-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        RunDir(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn client(&self) -> Client {
        Client::new(self.path("control.sock"), self.path("pair.json"), self.path("lock"))
    }

    pub fn write_pair(&self, state: &str, active: Option<Twin>, waits_for: Option<&str>) {
        let pair = PairFile {
            schema: SCHEMA,
            node: "n".into(),
            state: state.into(),
            active,
            standby: None,
            keeper: None,
            waits_for: waits_for.map(str::to_owned),
            decides_within_ms: None,
            written_at: "2026-11-21T19:44:01Z".into(),
        };
        fs::write(self.path("pair.json"), serde_json::to_vec(&pair).unwrap()).unwrap();
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process as a twin: alive as long as it is.
pub fn twin(pid: u32) -> Twin {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start_ticks = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap();
    Twin { pid: pid as i32, start_ticks: start_ticks.parse().unwrap(), version: "0.1.0".into() }
}

/// Serves one connection after the other until it is dropped.
pub struct Server {
    path: PathBuf,
    is_ending: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<Request>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `reply` is called with each request and the number of requests before it.
    pub fn start(
        path: &Path,
        mut reply: impl FnMut(&Request, usize) -> Reply + Send + 'static,
    ) -> Server {
        let listener = UnixListener::bind(path).unwrap();
        let is_ending = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (ending, seen) = (is_ending.clone(), requests.clone());
        let thread = thread::spawn(move || {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                if ending.load(Ordering::SeqCst) {
                    break;
                }
                let Some(request) = read_request(&mut stream) else { continue };
                let before = seen.lock().unwrap().len();
                seen.lock().unwrap().push(request.clone());
                match reply(&request, before) {
                    Reply::Answer(status, body) => answer(&mut stream, status, &body),
                    Reply::Bytes(bytes) => drop(stream.write_all(&bytes)),
                    Reply::Hold => held.push(stream),
                    Reply::Release(body) => {
                        answer(&mut stream, 200, "{}");
                        held.drain(..1).for_each(|mut stream| answer(&mut stream, 200, &body));
                    }
                }
            }
        });
        Server { path: path.to_owned(), is_ending, requests, thread: Some(thread) }
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::SeqCst);
        if UnixStream::connect(&self.path).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn read_request(stream: &mut UnixStream) -> Option<Request> {
    let mut connection = Connection::default();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        if let Some(request) = connection.receive(&piece[..count]).ok()? {
            return Some(request);
        }
    }
}

fn answer(stream: &mut UnixStream, status: u16, body: &str) {
    let mut connection = Connection::default();
    connection.respond(status, JSON, body.as_bytes());
    let _ = stream.write_all(connection.pending());
    let _ = stream.shutdown(Shutdown::Both);
}
