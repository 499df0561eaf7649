//! Who is to be dialled: the configured addresses, and whoever announces itself for this site.

use std::{collections::HashMap, time::Duration};

use edgeprof_service::{
    discovery::{Browser, Found, Sighting, WORKER_SERVICE},
    shutdown::Tasks,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::session::{Context, FoundBy, Target, keep};

/// A worker that said goodbye is dialled this much longer: its announcement may only have run out.
const GRACE: Duration = Duration::from_secs(120);

/// Dials the configured addresses.
pub fn dial_static(workers: &[String], context: &Context, tasks: &Tasks) -> Vec<watch::Sender<Vec<String>>> {
    let mut keep_alive = Vec::new();
    for address in workers {
        let (sender, addresses) = watch::channel(vec![address.clone()]);
        keep_alive.push(sender);
        let target =
            Target { key: format!("static:{address}"), found_by: FoundBy::Static, worker: None, addresses };
        tasks.spawn(keep(target, context.clone()));
    }
    keep_alive
}

/// A dialled announcement.
#[derive(Debug)]
struct Announced {
    addresses: watch::Sender<Vec<String>>,
    /// Fires if it comes back.
    leaving: Option<CancellationToken>,
}

/// Dials workers as they announce themselves, until the daemon stops. Where multicast is not to be had,
/// it says so and ends.
pub async fn browse(fixed: Vec<String>, context: Context, tasks: Tasks) {
    let mut browser = match Browser::start(WORKER_SERVICE) {
        Ok(browser) => browser,
        Err(error) => {
            tracing::warn!(%error, "only configured workers will be served");
            return;
        }
    };
    let mut dialled: HashMap<String, Announced> = HashMap::new();
    let mut foreign: HashMap<String, String> = HashMap::new();
    while let Some(sighting) = browser.next().await {
        match sighting {
            Sighting::Up(found) if *found.site != *context.site => {
                if foreign.insert(found.id.clone(), found.site.clone()).as_ref() != Some(&found.site) {
                    tracing::debug!(worker = %found.id, site = %found.site, "a worker of another site is left alone");
                }
            }
            Sighting::Up(found) => {
                let addresses: Vec<_> = found.addresses.iter().map(ToString::to_string).collect();
                if addresses.iter().any(|address| fixed.contains(address)) {
                    continue;
                }
                up(found, addresses, &mut dialled, &context, &tasks);
            }
            Sighting::Down(id) => {
                if let Some(announced) = dialled.get_mut(&id) {
                    let back = CancellationToken::new();
                    if let Some(earlier) = announced.leaving.replace(back.clone()) {
                        earlier.cancel();
                    }
                    tasks.spawn_until_stop(forget(announced.addresses.clone(), back));
                }
            }
        }
    }
}

/// Dials a worker no more unless it comes back in time. A session that is up does not hang on this.
async fn forget(addresses: watch::Sender<Vec<String>>, back: CancellationToken) {
    tokio::select! {
        biased;
        () = back.cancelled() => {}
        () = tokio::time::sleep(GRACE) => {
            addresses.send_if_modified(|addresses| {
                // It may have come back this very moment.
                let gone = !back.is_cancelled();
                if gone {
                    addresses.clear();
                }
                gone
            });
        }
    }
}

fn up(
    found: Found,
    addresses: Vec<String>,
    dialled: &mut HashMap<String, Announced>,
    context: &Context,
    tasks: &Tasks,
) {
    if let Some(known) = dialled.get_mut(&found.id) {
        if let Some(leaving) = known.leaving.take() {
            leaving.cancel();
        }
        known.addresses.send_replace(addresses);
        return;
    }
    tracing::info!(worker = %found.id, ?addresses, "found a worker");
    let (sender, receiver) = watch::channel(addresses);
    let target = Target {
        key: format!("mdns:{}", found.id),
        found_by: FoundBy::Mdns,
        worker: found.id.parse().ok(),
        addresses: receiver,
    };
    tasks.spawn(keep(target, context.clone()));
    dialled.insert(found.id, Announced { addresses: sender, leaving: None });
}
