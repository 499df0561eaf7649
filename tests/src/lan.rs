//! Hosts on a network of their own: cables that can be pulled, and packets that get lost.

use std::{cell::Cell, io::Write, net::Ipv4Addr, process::Stdio, rc::Rc};

use crate::Namespace;

/// A switch, to which hosts are attached.
#[derive(Debug)]
pub struct Lan {
    switch: Rc<Namespace>,
    attached: Cell<u8>,
}

/// A host with one network interface.
#[derive(Debug)]
pub struct Host {
    space: Namespace,
    switch: Rc<Namespace>,
    /// The switch's end of the cable.
    port: String,
    address: Ipv4Addr,
}

/// Which packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the host.
    Out,
    /// To the host.
    In,
}

/// The host's end of every cable.
const INTERFACE: &str = "eth0";

impl Lan {
    /// A network without hosts, or `None`, said loudly, where this machine gives no namespaces.
    pub fn new() -> Option<Self> {
        match Namespace::new() {
            Ok(switch) => {
                ip(&switch, "link add lan type bridge mcast_snooping 0\nlink set lan up\n");
                Some(Self { switch: Rc::new(switch), attached: Cell::new(0) })
            }
            Err(error) => {
                eprintln!("SKIPPED: hosts in network namespaces: {error}");
                None
            }
        }
    }

    /// Attaches a host.
    pub fn host(&self) -> Host {
        let number = self.attached.get() + 1;
        self.attached.set(number);
        let space = self.switch.sibling();
        let (port, id) = (format!("port{number}"), space.id());
        let address = Ipv4Addr::new(10, 77, 0, number);
        ip(
            &self.switch,
            &format!(
                "link add {port} type veth peer name {INTERFACE} netns {id}\nlink set {port} master lan up\n"
            ),
        );
        ip(
            &space,
            &format!(
                "link set lo up\naddress add {address}/16 dev {INTERFACE}\nlink set {INTERFACE} up\n\
                 route add default dev {INTERFACE}\n"
            ),
        );
        Host { space, switch: Rc::clone(&self.switch), port, address }
    }
}

impl Host {
    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its view of the machine.
    pub fn space(&self) -> &Namespace {
        &self.space
    }

    /// Pulls the cable out of the switch.
    pub fn pull(&self) {
        ip(&self.switch, &format!("link set {} down\n", self.port));
    }

    /// Puts it back.
    pub fn put_back(&self) {
        ip(&self.switch, &format!("link set {} up\n", self.port));
    }

    /// Loses all packets of one way; no error tells either side.
    pub fn lose(&self, way: Way) {
        let (space, device) = self.sender(way);
        // A queue without room.
        space.run("tc", &["qdisc", "replace", "dev", device, "root", "pfifo", "limit", "0"]);
    }

    /// Loses no more of them.
    pub fn lose_none(&self, way: Way) {
        let (space, device) = self.sender(way);
        space.run("tc", &["qdisc", "delete", "dev", device, "root"]);
    }

    fn sender(&self, way: Way) -> (&Namespace, &str) {
        match way {
            Way::Out => (&self.space, INTERFACE),
            Way::In => (&self.switch, &self.port),
        }
    }

    /// Takes another address in place of the present one, as a lease that ran out does.
    pub fn readdress(&mut self, address: Ipv4Addr) {
        let old = self.address;
        ip(
            &self.space,
            &format!(
                "address delete {old}/16 dev {INTERFACE}\naddress add {address}/16 dev {INTERFACE}\n\
                      route replace default dev {INTERFACE}\n"
            ),
        );
        self.address = address;
    }
}

/// Runs commands of `ip`, one a line.
fn ip(space: &Namespace, lines: &str) {
    let mut command = space.command("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(lines.as_bytes()).expect("ip reads its commands");
    drop(stdin);
    let out = child.wait_with_output().expect("a child can be waited for");
    assert!(out.status.success(), "{lines}: {}", String::from_utf8_lossy(&out.stderr));
}
