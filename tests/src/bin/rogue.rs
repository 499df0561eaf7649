//! Announces itself as a worker without being one, and writes down what whoever dials it says first.
//!
//! `rogue NAME SITE ADDRESS`: prints the first bytes of each connection in hex, one a line.

use std::{
    io::{Read, Write},
    net::TcpListener,
    time::Duration,
};

use edgeprof_service::discovery::{Announcement, WORKER_SERVICE};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("NAME SITE ADDRESS");
    let (name, site, address) = (next(), next(), next());
    let listener = TcpListener::bind(&address).expect("an address of this host");
    let listen = listener.local_addr().expect("it is bound");
    let _announcement =
        Announcement::start(WORKER_SERVICE, &name, &site, listen, false).expect("this host has multicast");
    for connection in listener.incoming() {
        let mut connection = connection.expect("somebody connects");
        // Whoever speaks first speaks at once.
        connection.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket takes a timeout");
        let mut said = [0; 64];
        let length = connection.read(&mut said).unwrap_or(0);
        let hex: String = said[..length].iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{hex}");
        let _ = std::io::stdout().flush();
        // As an HTTP/2 server would greet: whoever takes that for an answer is fooled.
        let _ = connection.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    }
}
