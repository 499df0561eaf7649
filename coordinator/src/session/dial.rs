//! Keeps one worker served for as long as it is wanted: dial, serve, wait, again.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use edgeprof_common::WorkerId;
use edgeprof_service::{channel::ConnectError, tls::Demand};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::watch, time::Instant};

use super::{
    Context, FoundBy, SessionEvent,
    serve::{End, serve},
};
use crate::core::Command;

const CONNECT: Duration = Duration::from_secs(3);
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);
/// A refusal rarely changes by itself.
const REFUSED: Duration = Duration::from_secs(20);
/// While another session serves the worker.
const PARKED: Duration = Duration::from_secs(5);
/// A session that lasted this long was a good one.
const GOOD: Duration = Duration::from_secs(5);

/// After a session was lost, dials that are refused follow each other quickly for so long: two of them,
/// `refused_apart` from each other, prove that the worker's process is gone.
const PROOF: Duration = Duration::from_secs(3);

/// A worker to be served.
#[derive(Debug)]
pub struct Target {
    /// Names the target.
    pub key: String,
    /// How it was found.
    pub found_by: FoundBy,
    /// Its id, where that is known before it says so.
    pub worker: Option<WorkerId>,
    /// Where to dial, best first; may change. Where there is none, nobody is dialled; a session that is
    /// up stays up.
    pub addresses: watch::Receiver<Vec<String>>,
}

/// Serves a target until the coordinator stops.
pub async fn keep(mut target: Target, context: Context) {
    tokio::select! {
        () = context.stop.clone().cancelled_owned() => {}
        () = forever(&mut target, &context) => {}
    }
}

async fn forever(target: &mut Target, context: &Context) {
    let mut jitter = jitter(context.jitter, &target.key);
    let mut wait = FIRST;
    let mut told = None;
    let mut lost: Option<Instant> = None;
    loop {
        let addresses = target.addresses.borrow_and_update().clone();
        if addresses.is_empty() {
            let gone = SessionEvent::Gone { key: target.key.clone() };
            let _ = context.commands.send(Command::Session(gone)).await;
            (wait, told) = (FIRST, None);
            if target.addresses.changed().await.is_err() {
                return;
            }
            continue;
        }
        let (mut pause, mut dead) = (None, false);
        for address in addresses {
            let since = Instant::now();
            let (reason, refused, next) = match attempt(target, context, &address).await {
                Attempt::Parked => {
                    pause = Some(PARKED);
                    break;
                }
                Attempt::Ended(End::Lost(reason)) => {
                    if since.elapsed() > GOOD {
                        wait = FIRST;
                    }
                    lost = Some(Instant::now());
                    (reason, false, None)
                }
                Attempt::Ended(End::Refused(reason)) => (reason, false, Some(REFUSED)),
                Attempt::Ended(End::Superseded(reason)) => {
                    let superseded = SessionEvent::Superseded(reason.clone());
                    let _ = context.commands.send(Command::Session(superseded)).await;
                    (reason, false, Some(REFUSED))
                }
                Attempt::Unreachable(error) => {
                    let refused = matches!(error, ConnectError::Unreachable { refused: true, .. });
                    (explained(&error), refused, None)
                }
            };
            if told.as_ref() != Some(&reason) {
                tracing::warn!(worker = %target.key, %address, %reason, "no session with the worker");
                told = Some(reason.clone());
            }
            pause = pause.or(next);
            dead |= refused;
            report(target, context, &address, Some(reason), refused).await;
            if pause.is_some() {
                // The worker itself has answered: at another address it would say the same.
                break;
            }
        }
        // Full jitter, so that many coordinators' dials do not fall together.
        let jittered = wait.mul_f64(jitter.random_range(0.0..1.0)).max(Duration::from_millis(50));
        let pause = pause.unwrap_or_else(|| {
            wait = longer(wait, lost.filter(|_| dead).map(|lost| lost.elapsed()));
            jittered
        });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = target.addresses.changed() => if changed.is_ok() { wait = FIRST } else {
                // Nobody will name another address: those known stay.
                tokio::time::sleep(pause).await;
            },
        }
    }
}

/// The next bound of a pause; `dead` is how long ago the session was lost of a worker whose host refuses dials.
fn longer(wait: Duration, dead: Option<Duration>) -> Duration {
    if dead.is_some_and(|ago| ago < PROOF) { FIRST } else { (wait * 2).min(LONGEST) }
}

/// Each target's own: two with one seed do not dial together.
fn jitter(seed: u64, key: &str) -> StdRng {
    let mut hasher = DefaultHasher::new();
    (seed, key).hash(&mut hasher);
    StdRng::seed_from_u64(hasher.finish())
}

enum Attempt {
    Parked,
    Unreachable(ConnectError),
    Ended(End),
}

async fn attempt(target: &mut Target, context: &Context, address: &str) -> Attempt {
    let (reply, answer) = tokio::sync::oneshot::channel();
    let greet = SessionEvent::Greet { key: target.key.clone(), worker: target.worker.clone(), reply };
    if context.commands.send(Command::Session(greet)).await.is_err() {
        return Attempt::Parked;
    }
    let Ok(Some(greeting)) = answer.await else { return Attempt::Parked };
    // An announcement is a hint: whom it names has to be there, by certificate.
    let sought = target.worker.as_ref().filter(|_| target.found_by == FoundBy::Mdns);
    let dialer = context.dialer.demanding(Demand::Worker(sought.map(ToString::to_string)));
    match dialer.connect(address, CONNECT).await {
        Ok(channel) => Attempt::Ended(serve(target, context, &dialer, address, channel, greeting).await),
        Err(error) => Attempt::Unreachable(error),
    }
}

/// With the way out, where certificates are the reason: `edgeprof workers` shows it.
fn explained(error: &ConnectError) -> String {
    match error {
        ConnectError::Untrusted { why, .. } => format!("{error}; {}", why.hint),
        _ => error.to_string(),
    }
}

async fn report(target: &Target, context: &Context, address: &str, reason: Option<String>, refused: bool) {
    let dialled = SessionEvent::Dialled {
        key: target.key.clone(),
        found_by: target.found_by,
        address: address.to_owned(),
        worker: target.worker.clone(),
        reason,
        refused,
    };
    let _ = context.commands.send(Command::Session(dialled)).await;
}

#[cfg(test)]
mod tests {
    use edgeprof_scheduler::Config;

    use super::*;

    /// When dials come after a session was lost, where each pause is as long as it may be.
    fn dials(refused: bool) -> Vec<Duration> {
        let (mut at, mut wait, mut dials) = (FIRST, FIRST, Vec::new());
        while dials.len() < 40 {
            dials.push(at);
            wait = longer(wait, refused.then_some(at));
            at += wait;
        }
        dials
    }

    #[test]
    fn a_worker_that_refuses_dials_is_proven_dead_well_within_two_seconds() {
        let dials = dials(true);
        let proof = dials.iter().find(|at| **at - dials[0] >= Config::default().refused_apart).unwrap();
        assert!(*proof < Duration::from_millis(1500), "{dials:?}");
    }

    #[test]
    fn pauses_grow_where_nothing_answers_and_once_the_proof_is_there() {
        for refused in [true, false] {
            let dials = dials(refused);
            assert!(dials.windows(2).any(|pair| pair[1] - pair[0] == LONGEST), "{dials:?}");
        }
        assert!(dials(false)[2] - dials(false)[1] > FIRST);
    }
}
