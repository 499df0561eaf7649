//! mDNS service discovery (RFC 6762, RFC 6763). An announcement is a hint: it never authenticates,
//! and silence never means that a peer is gone.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use mdns_sd::{ServiceDaemon, ServiceEvent, ServiceInfo};

/// Service type of workers.
pub const WORKER_SERVICE: &str = "_edgeprof-worker._tcp.local.";

/// Service type of coordinators.
pub const COORDINATOR_SERVICE: &str = "_edgeprof._tcp.local.";

/// Announcements that are remembered; a lab has fewer peers.
const KNOWN: usize = 4096;

/// Addresses of one name that are tried.
const ADDRESSES: usize = 16;

/// Version of the TXT record.
const TXT_VERSION: &str = "1";

/// Multicast is not to be had on this machine.
#[derive(Debug, thiserror::Error)]
#[error("mDNS is not available: {0}")]
pub struct DiscoveryError(#[from] mdns_sd::Error);

/// A peer that announced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its own name for itself.
    pub id: String,
    /// Its site.
    pub site: String,
    /// Addresses that this host can reach, best first.
    pub addresses: Vec<SocketAddr>,
    /// Whether it says that it speaks TLS. That it does not is no reason to speak without.
    pub tls: bool,
}

/// What was seen on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// A peer, or new addresses of one.
    Up(Found),
    /// A peer said goodbye, or its record ran out. The full service name.
    Down(String),
}

/// An announcement, withdrawn when dropped.
pub struct Announcement {
    daemon: ServiceDaemon,
    fullname: String,
}

impl Announcement {
    /// Announces `id` of `site` as `service` on the addresses that `listen` is bound to, and whether TLS is spoken
    /// there.
    ///
    /// # Errors
    /// When the machine has no multicast socket to give.
    pub fn start(
        service: &str,
        id: &str,
        site: &str,
        listen: SocketAddr,
        tls: bool,
    ) -> Result<Self, DiscoveryError> {
        let daemon = ServiceDaemon::new()?;
        let loopback = listen.ip().is_loopback();
        if loopback {
            // Another host would take 127.0.0.1 for its own.
            daemon.disable_interface(mdns_sd::IfKind::All)?;
            daemon.enable_interface(mdns_sd::IfKind::LoopbackV4)?;
        } else if listen.is_ipv4() {
            // Nobody listens at this host's other addresses.
            daemon.disable_interface(mdns_sd::IfKind::IPv6)?;
        }
        let mut suffix = [0; 4];
        // A clash of two host records would take both off the net.
        let _ = getrandom::fill(&mut suffix);
        let host = format!("edgeprof-{:08x}.local.", u32::from_le_bytes(suffix));
        let txt = [("id", id), ("site", site), ("v", TXT_VERSION), ("tls", if tls { "1" } else { "0" })];
        let instance: String = id.chars().map(|c| if c == '.' { '-' } else { c }).take(50).collect();
        let instance = format!("{instance}-{:08x}", u32::from_le_bytes(suffix));
        let info = if listen.ip().is_unspecified() {
            ServiceInfo::new(service, &instance, &host, "", listen.port(), &txt[..])?.enable_addr_auto()
        } else {
            ServiceInfo::new(service, &instance, &host, listen.ip(), listen.port(), &txt[..])?
        };
        let fullname = info.get_fullname().to_owned();
        daemon.register(info)?;
        Ok(Self { daemon, fullname })
    }

    /// Says goodbye and waits until that is on the wire.
    pub async fn withdraw(self) {
        if let Ok(done) = self.daemon.unregister(&self.fullname) {
            let _ = done.recv_async().await;
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        let _ = self.daemon.unregister(&self.fullname);
        let _ = self.daemon.shutdown();
    }
}

/// A running search for one service type.
pub struct Browser {
    daemon: ServiceDaemon,
    events: mdns_sd::Receiver<ServiceEvent>,
    known: HashMap<String, Found>,
}

impl Browser {
    /// Starts to look for `service`.
    ///
    /// # Errors
    /// When the machine has no multicast socket to give.
    pub fn start(service: &str) -> Result<Self, DiscoveryError> {
        let daemon = ServiceDaemon::new()?;
        daemon.enable_interface(mdns_sd::IfKind::LoopbackV4)?;
        let events = daemon.browse(service)?;
        Ok(Self { daemon, events, known: HashMap::new() })
    }

    /// The next sighting that says something new, or `None` when the search has ended.
    pub async fn next(&mut self) -> Option<Sighting> {
        loop {
            match self.events.recv_async().await.ok()? {
                ServiceEvent::ServiceResolved(service) => {
                    let text = |key| service.get_property_val_str(key).unwrap_or_default().to_owned();
                    let all: Vec<IpAddr> =
                        service.get_addresses().iter().map(mdns_sd::ScopedIp::to_ip_addr).collect();
                    let mut addresses = all.clone();
                    addresses.retain(|ip| usable(*ip, &all));
                    addresses.sort_by_key(|ip| (ip.is_ipv6(), ip.is_loopback(), *ip));
                    let port = service.get_port();
                    let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
                    let tls = text("tls") == "1";
                    let found = Found { id: text("id"), site: text("site"), addresses, tls };
                    let fullname = service.get_fullname().to_owned();
                    if found.addresses.is_empty() || self.known.get(&fullname) == Some(&found) {
                        continue;
                    }
                    if self.known.len() >= KNOWN && !self.known.contains_key(&fullname) {
                        // Who floods the network with names costs nobody more than this.
                        continue;
                    }
                    self.known.insert(fullname, found.clone());
                    return Some(Sighting::Up(self.with_namesakes(found)));
                }
                ServiceEvent::ServiceRemoved(_, fullname) => {
                    let Some(gone) = self.known.remove(&fullname) else { continue };
                    let namesake = self.known.values().find(|known| known.is_named_like(&gone)).cloned();
                    return Some(match namesake {
                        Some(other) => Sighting::Up(self.with_namesakes(other)),
                        None => Sighting::Down(gone.id),
                    });
                }
                _ => {}
            }
        }
    }

    /// Where to find it by all who take its name: anybody can announce anything, and must not displace who is
    /// there. What it says itself comes first.
    fn with_namesakes(&self, mut found: Found) -> Found {
        let mut all = std::mem::take(&mut found.addresses);
        for address in
            self.known.values().filter(|other| other.is_named_like(&found)).flat_map(|other| &other.addresses)
        {
            if all.len() < ADDRESSES && !all.contains(address) {
                all.push(*address);
            }
        }
        Found { addresses: all, ..found }
    }
}

impl Found {
    fn is_named_like(&self, other: &Self) -> bool {
        (&self.id, &self.site) == (&other.id, &other.site)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.daemon.shutdown();
    }
}

/// Beside an address on the network, a loopback address means the announcer's own host, not this one. An address of
/// a single link says nothing without the name of that link.
fn usable(ip: IpAddr, all: &[IpAddr]) -> bool {
    let of_a_link = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    !of_a_link && (!ip.is_loopback() || all.iter().all(IpAddr::is_loopback))
}

impl fmt::Debug for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announcement").field("fullname", &self.fullname).finish_non_exhaustive()
    }
}

impl fmt::Debug for Browser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Browser").field("known", &self.known).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn loopback_counts_only_where_nothing_else_is_announced() {
        let (lan, lo) = (IpAddr::from([192, 0, 2, 7]), IpAddr::from([127, 0, 0, 1]));
        assert!(usable(lo, &[lo]));
        assert!(!usable(lo, &[lan, lo]));
        assert!(usable(lan, &[lan, lo]));
    }

    #[test]
    fn an_address_of_a_single_link_is_not_dialled() {
        let (link, global): (IpAddr, IpAddr) = ("fe80::1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert!(!usable(link, &[link, global]));
        assert!(usable(global, &[link, global]));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_announced_peer_is_found_with_its_site_and_its_goodbye_is_seen() {
        let service = format!("_ep{:08x}._tcp.local.", std::process::id());
        let mut browser = match Browser::start(&service) {
            Ok(browser) => browser,
            Err(error) => {
                eprintln!("SKIPPED: {error}");
                return;
            }
        };
        let listen = SocketAddr::from(([127, 0, 0, 1], 7451));
        let announcement = Announcement::start(&service, "lab-1", "attic", listen, true).unwrap();
        let seen = tokio::time::timeout(Duration::from_secs(30), browser.next()).await.unwrap();
        let found = Found { id: "lab-1".into(), site: "attic".into(), addresses: vec![listen], tls: true };
        assert_eq!(seen, Some(Sighting::Up(found)));
        announcement.withdraw().await;
        let gone = tokio::time::timeout(Duration::from_secs(30), browser.next()).await.unwrap();
        assert_eq!(gone, Some(Sighting::Down("lab-1".into())));
    }
}
