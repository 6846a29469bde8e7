//! A real Redis under load: no takeover costs a request, and when Redis itself dies it is back.
//!
//! Needs redis-server; says so and passes where there is none. Must not use a client library: what
//! goes wrong on the wire is what is looked for.

mod support;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use support::{Pair, SIGKILL, free_port, has_tool, signal, wait_until};

/// One connection that speaks as much of Redis's protocol as the load needs.
struct Redis {
    stream: BufReader<TcpStream>,
}

impl Redis {
    fn connect(port: u16) -> io::Result<Redis> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_nodelay(true)?;
        Ok(Redis { stream: BufReader::new(stream) })
    }

    /// Sends a command; gives the answer as text: a status, a string, or `-` and an error.
    fn ask(&mut self, words: &[&str]) -> io::Result<String> {
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.stream.get_mut().write_all(text.as_bytes())?;
        let head = self.line()?;
        match head.strip_prefix('$') {
            Some("-1") => Ok(String::new()),
            Some(_) => self.line(),
            None => Ok(head),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_string()),
        }
    }
}

/// What the load has seen.
#[derive(Default)]
struct Load {
    ends: AtomicBool,
    requests: AtomicU64,
    connections: AtomicU64,
    errors: Mutex<Vec<String>>,
}

impl Load {
    /// Writes a value, reads one back, and so on; after an error on a new connection.
    fn run(&self, port: u16) {
        while !self.ends.load(Ordering::SeqCst) {
            let result = Redis::connect(port).and_then(|mut redis| {
                self.connections.fetch_add(1, Ordering::SeqCst);
                self.write_and_read(&mut redis)
            });
            if let Err(error) = result {
                self.errors.lock().expect("nobody panics here").push(error.to_string());
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn write_and_read(&self, redis: &mut Redis) -> io::Result<()> {
        let mut written: BTreeMap<String, String> = BTreeMap::new();
        for number in 0u64.. {
            if self.ends.load(Ordering::SeqCst) {
                break;
            }
            let (key, value) = (format!("key{}", number % 100), format!("value{number}"));
            let answer = redis.ask(&["SET", &key, &value])?;
            if answer != "+OK" {
                return Err(io::Error::other(format!("SET answered {answer}")));
            }
            written.insert(key, value);
            let (key, value) = written
                .iter()
                .nth(number as usize % 7 % written.len())
                .expect("something was written");
            let answer = redis.ask(&["GET", key])?;
            if answer != *value {
                return Err(io::Error::other(format!("{key} is {answer:?}, not {value:?}")));
            }
            self.requests.fetch_add(2, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Waits until the load has got answers again and again from now on.
    fn wait_for_more(&self) {
        let before = self.requests.load(Ordering::SeqCst);
        wait_until("more requests to be answered", || {
            self.requests.load(Ordering::SeqCst) > before + 50
        });
    }

    fn errors(&self) -> Vec<String> {
        self.errors.lock().expect("nobody panics here").clone()
    }
}

fn is_up(port: u16) -> bool {
    Redis::connect(port)
        .and_then(|mut redis| redis.ask(&["PING"]))
        .is_ok_and(|text| text == "+PONG")
}

/// A node manager with a Redis that keeps nothing on disk.
fn redis_pair() -> (Pair, u16) {
    let port = free_port();
    let table = format!(
        "[[server]]\nname = \"redis\"\nsettleTime = \"50ms\"\nrestart = {{ delay = \"0s\" }}\n\
         command = [\"redis-server\", \"--bind\", \"127.0.0.1\", \"--port\", \"{port}\", \
         \"--save\", \"\", \"--appendonly\", \"no\", \"--daemonize\", \"no\"]\n"
    );
    let pair = Pair::new("", &table);
    pair.start();
    pair.wait_whole();
    wait_until("Redis to answer", || is_up(port));
    (pair, port)
}

#[test]
fn no_request_to_redis_fails_while_twenty_actives_are_killed_and_a_killed_redis_is_back() {
    if !has_tool("redis-server") {
        return;
    }
    let (pair, port) = redis_pair();
    let redis = pair.pids()["redis"];
    let load = Load::default();
    std::thread::scope(|scope| {
        // Whatever fails below, the load ends, or the scope would wait for ever.
        let _end = EndOnDrop(&load.ends);
        scope.spawn(|| load.run(port));
        for _ in 0..20 {
            signal(pair.pid_of("active"), SIGKILL);
            load.wait_for_more();
            assert_eq!(pair.pids()["redis"], redis);
            pair.wait_whole();
        }
        assert_eq!(load.errors(), Vec::<String>::new());
        assert_eq!(load.connections.load(Ordering::SeqCst), 1, "the connection was lost");
        assert_eq!(pair.status()["takeovers"], 20);
        let asked = load.requests.load(Ordering::SeqCst);
        println!("20 takeovers during {asked} requests to Redis, none failed");

        signal(redis, SIGKILL);
        wait_until("Redis to be killed and back", || {
            let row = pair.server("redis");
            row["state"] == "RUNNING" && row["pid"] != redis
        });
        load.wait_for_more();
        let row = pair.server("redis");
        assert_eq!((&row["restarts"], &row["lastExit"]["signal"]), (&1.into(), &"SIGKILL".into()));
        assert!(!load.errors().is_empty(), "the load has not seen that Redis died");
    });
}

/// Ends the load.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
