//! Strangers at both sockets: random bytes, half requests, huge heads, connections left open.
//!
//! Must keep to a bounded number of connections and bytes, and must close them in the end.

use crate::Held;
use crate::rng::Rng;
use crate::world::World;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A stranger does not wait longer than this for anything.
const PATIENCE: Duration = Duration::from_millis(200);

fn bytes(rng: &mut Rng, most: u64) -> Vec<u8> {
    (0..rng.range(1, most)).map(|_| rng.below(256) as u8).collect()
}

/// Something that is no request, or none that ends.
fn nonsense(rng: &mut Rng) -> Vec<u8> {
    match rng.below(8) {
        0 => bytes(rng, 20_000),
        1 => b"GET /v1/status HTTP/1.1\r\nHo".to_vec(),
        2 => [b"GET /v1/status HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 300_000]].concat(),
        3 => b"POST /v1/servers/stop HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n{".to_vec(),
        4 => b"POST /v1/servers/stop HTTP/1.1\r\nContent-Length: 7\r\n\r\n{\"id\": ".to_vec(),
        5 => b"\r\n\r\n\r\nDELETE / HTTP/9.9\r\n\r\n".to_vec(),
        6 => b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200),
        // The head of a frame of the link, with a length that lies.
        _ => [&[0xff, 0xff, 0xff, 0x7f], &bytes(rng, 100)[..]].concat(),
    }
}

/// Writes, and perhaps reads a little; whatever comes of it is well.
fn disturb(stream: &mut (impl Read + Write), rng: &mut Rng) {
    for _ in 0..rng.range(1, 3) {
        if stream.write_all(&nonsense(rng)).is_err() {
            return;
        }
    }
    if rng.per_mille(500) {
        let _ = stream.read(&mut [0; 1000]);
    }
}

pub fn standby_port(world: &mut World) -> Held {
    for _ in 0..world.rng.range(1, 40) {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", world.port)) else { continue };
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.set_write_timeout(Some(PATIENCE));
        disturb(&mut stream, &mut world.rng);
    }
    Ok(())
}

pub fn control_socket(world: &mut World) -> Held {
    for _ in 0..world.rng.range(1, 40) {
        if let Some(mut stream) = control(world) {
            disturb(&mut stream, &mut world.rng);
        }
    }
    Ok(())
}

fn control(world: &World) -> Option<UnixStream> {
    let stream = UnixStream::connect(world.home.join("run/control.sock")).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

/// Connections that say nothing, or half of something, while everything is looked at.
pub fn left_open(world: &mut World) -> Held {
    let (mut ports, mut sockets) = (Vec::new(), Vec::new());
    for _ in 0..world.rng.range(10, 100) {
        ports.extend(TcpStream::connect(("127.0.0.1", world.port)));
        sockets.extend(control(world));
    }
    for stream in &mut sockets {
        if world.rng.per_mille(500) {
            let _ = stream.write_all(b"GET /v1/status HTTP/1.1\r\nHo");
        }
    }
    world.audit()
}
