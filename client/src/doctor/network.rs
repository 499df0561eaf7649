//! Multicast, and the coordinators that this machine would speak to.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use edgeprof_client::{ClientError, address};
use edgeprof_common::Nonce;
use edgeprof_service::discovery::{Announcement, Browser, Sighting};
use tokio::time::timeout;

use super::check::Check;
use crate::args::Global;

/// How long an announcement may take to be heard; where multicast works it takes one second.
const PATIENCE: Duration = Duration::from_secs(4);

/// Whether an announcement was heard, by address that it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) address: IpAddr,
    pub(crate) outcome: Result<(), String>,
}

/// Announces something over each interface that matters, and listens for it.
pub(crate) async fn multicast() -> Vec<Heard> {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let one = async |address: IpAddr| Heard { address, outcome: hear_oneself(address).await };
    match lan() {
        Some(lan) => {
            let (near, far) = tokio::join!(one(loopback), one(lan));
            vec![near, far]
        }
        None => vec![one(loopback).await],
    }
}

/// The address that packets to other hosts would leave from. Nothing is sent.
fn lan() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("224.0.0.251:5353").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

async fn hear_oneself(address: IpAddr) -> Result<(), String> {
    let id = Nonce::random().to_string();
    let letters: String = id.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let service = format!("_ep{letters}._tcp.local.");
    let mut browser = Browser::start(&service).map_err(|error| error.to_string())?;
    let _announcement = Announcement::start(&service, &id, "", SocketAddr::new(address, 9), false)
        .map_err(|error| error.to_string())?;
    let heard = async {
        while let Some(sighting) = browser.next().await {
            if matches!(sighting, Sighting::Up(found) if found.id == id) {
                return Ok(());
            }
        }
        Err("the search ended".to_owned())
    };
    timeout(PATIENCE, heard)
        .await
        .unwrap_or_else(|_| Err(format!("an announcement was not heard within {} s", PATIENCE.as_secs())))
}

/// Without multicast, daemons and clients are told addresses.
pub(crate) fn judge_multicast(all: &[Heard]) -> Vec<Check> {
    let one = |heard: &Heard| {
        let name = format!("multicast on {}", heard.address);
        match &heard.outcome {
            Ok(()) => Check::ok(name, "an announcement is heard"),
            Err(why) => Check::warning(
                name,
                why,
                "open UDP port 5353, such as: sudo ufw allow 5353/udp\n\
                 or name addresses: edgeprof-coordinator --worker HOST:7451, and \
                 export EDGEPROF_COORDINATOR=http://HOST:7450",
            ),
        }
    };
    all.iter().map(one).collect()
}

/// What this client finds where it looks for its coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Coordinator {
    /// It answers; how many boards it has, and how many of them are good.
    Answers { url: String, origin: String, boards: usize, good: usize },
    /// Somebody named it, or it announced itself, and it does not answer.
    Silent { tried: Vec<String> },
    /// Somebody answers, and this client may not speak to them or cannot.
    Refuses { why: String, hint: Option<String> },
    /// Several announce themselves: addresses with their names.
    Several { found: Vec<String> },
    /// Nobody is there, and nobody said that there is.
    None,
    /// The client's own configuration file is wrong.
    Confused { why: String },
}

/// Looks for a coordinator as every command does.
pub(crate) async fn coordinator(global: &Global) -> Coordinator {
    let secured = global.certificates().is_some();
    let target = match address::resolve(&global.said(), address::search(), secured).await {
        Ok(target) => target,
        Err(ClientError::Ambiguous { found }) => return Coordinator::Several { found },
        Err(error) => return Coordinator::Confused { why: error.to_string() },
    };
    let dialer = match global.dialer(&target) {
        Ok(dialer) => dialer,
        Err(failure) => return Coordinator::Confused { why: failure.message().to_owned() },
    };
    let boards = async {
        let client = Global::showing(address::connect(&target, &dialer).await?, global.token()?)?;
        let client = client.with_patience(Duration::from_secs(3));
        Ok::<_, ClientError>((client.address().to_owned(), client.boards(&[]).await?))
    };
    match (boards.await, &target.origin) {
        (Ok((url, boards)), origin) => Coordinator::Answers {
            url,
            origin: origin.to_string(),
            boards: boards.len(),
            good: boards.iter().filter(|board| board.health == "good").count(),
        },
        (Err(_), address::Origin::Default { .. }) => Coordinator::None,
        (Err(ClientError::Unreachable { tried }), _) => Coordinator::Silent { tried },
        (Err(error), _) => Coordinator::Refuses { why: error.to_string(), hint: error.hint() },
    }
}

/// A lab has one coordinator, or is told which.
pub(crate) fn judge_coordinator(coordinator: &Coordinator) -> Check {
    const NAME: &str = "coordinator";
    match coordinator {
        Coordinator::Answers { url, origin, boards, good } => {
            Check::ok(NAME, format!("answers at {url} ({origin}), {good} of {boards} boards are good"))
        }
        Coordinator::None => Check::ok(NAME, "none is running or announced; run --local needs none"),
        Coordinator::Silent { tried } => Check::problem(
            NAME,
            format!("does not answer: {}", tried.join("; ")),
            "start it there with edgeprof-coordinator, or name another: export EDGEPROF_COORDINATOR=http://HOST:7450",
        ),
        Coordinator::Refuses { why, hint } => {
            let remedy = hint.as_deref().unwrap_or("look at what its log says");
            Check::problem(NAME, why.replace('\n', " "), remedy)
        }
        Coordinator::Several { found } => {
            let url =
                found.first().and_then(|text| text.split_whitespace().next()).unwrap_or("http://HOST:7450");
            let found = format!("{} answer on this network: {}", found.len(), found.join("; "));
            Check::problem(NAME, found, format!("choose one, such as: export EDGEPROF_COORDINATOR={url}"))
        }
        Coordinator::Confused { why } => {
            Check::problem(NAME, why, "correct the file, or name the coordinator with --coordinator URL")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, *};

    #[test]
    fn one_coordinator_or_none_is_fine_and_two_are_listed() {
        let answers = Coordinator::Answers {
            url: "http://a:1".into(),
            origin: "from --coordinator".into(),
            boards: 3,
            good: 2,
        };
        let check = judge_coordinator(&answers);
        assert_eq!(check.found, "answers at http://a:1 (from --coordinator), 2 of 3 boards are good");
        assert_eq!(judge_coordinator(&Coordinator::None).status, Status::Ok);
        let found = vec!["http://a:1 (c1)".to_owned(), "http://b:1 (c2, site attic)".to_owned()];
        let check = judge_coordinator(&Coordinator::Several { found });
        assert_eq!(check.status, Status::Problem);
        assert!(check.found.contains("http://a:1 (c1); http://b:1 (c2, site attic)"), "{check:?}");
        assert_eq!(check.remedy.unwrap(), "choose one, such as: export EDGEPROF_COORDINATOR=http://a:1");
    }

    #[test]
    fn one_that_was_named_and_does_not_answer_is_a_problem() {
        let check = judge_coordinator(&Coordinator::Silent { tried: vec!["http://a:1: refused".into()] });
        assert!(check.status == Status::Problem && check.found.contains("http://a:1: refused"));
    }

    #[test]
    fn one_that_does_not_let_this_client_in_says_the_way_out_itself() {
        let hint = Some("`edgeprof pki renew client/ann`".to_owned());
        let check = judge_coordinator(&Coordinator::Refuses { why: "it has expired".into(), hint });
        assert_eq!((check.found.as_str(), check.status), ("it has expired", Status::Problem));
        assert_eq!(check.remedy.unwrap(), "`edgeprof pki renew client/ann`");
    }

    #[test]
    fn without_multicast_a_lab_is_told_addresses() {
        let heard = |outcome| Heard { address: [127, 0, 0, 1].into(), outcome };
        let checks = judge_multicast(&[heard(Ok(())), heard(Err("not heard".into()))]);
        assert_eq!([checks[0].status, checks[1].status], [Status::Ok, Status::Warning]);
        assert!(checks[1].remedy.as_ref().unwrap().contains("--worker HOST:7451"));
    }
}
