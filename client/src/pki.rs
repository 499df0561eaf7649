//! `edgeprof pki`: the lab's certificate authority.

use std::path::{Path, PathBuf};

use edgeprof_client::{PublishRevocationsResponse, address};
use edgeprof_common::Identity;
use edgeprof_identity::{Authority, Issued, Order, PkiError, files, names};
use edgeprof_report::{Column, Sheet};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    args::{Global, How, Pki, PkiCommand, Whose},
    exit::{Exit, Failure},
    output::{self, Format},
};

impl From<PkiError> for Failure {
    fn from(error: PkiError) -> Self {
        Self::usage(error.to_string()).hint(error.hint())
    }
}

/// Does what was asked. A lock on the folder may have to be waited for, which is no matter here: nothing else runs.
pub(crate) async fn run(global: &Global, pki: Pki) -> Result<Exit, Failure> {
    let dir = pki.dir.map_or_else(usual, Ok)?;
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let text = match pki.command {
        PkiCommand::Init { lab } => {
            Authority::init(&dir, &lab, now)?;
            format!(
                "the authority of lab {lab} is in {0}\nkeep {0}/ca.key to yourself: whoever has it can be anybody\n",
                dir.display()
            )
        }
        PkiCommand::Issue { whose } => {
            let (identity, how, again) = match whose {
                Whose::Coordinator { how, again } => (Identity::Coordinator, how, again),
                Whose::Worker { name, how, again } => (Identity::Worker(name), how, again),
                Whose::Client { name, role, how, again } => (Identity::Client { name, role }, how, again),
            };
            let mut authority = Authority::open(&dir)?;
            let order = Order { identity, lifetime: lifetime(&how), again: again.again, out: how.out };
            let issued = authority.issue(&order, now)?;
            answer(global, &authority, &issued, now)?
        }
        PkiCommand::Renew { name, how } => {
            let mut authority = Authority::open(&dir)?;
            let issued = authority.renew(&name, lifetime(&how), how.out, now)?;
            answer(global, &authority, &issued, now)?
        }
        PkiCommand::List => list(global, &Authority::open(&dir)?, now)?,
        PkiCommand::Revoke { which, reason } => {
            let mut authority = Authority::open(&dir)?;
            let revoked = authority.revoke(&which, reason, now)?;
            told(global, &authority, &revoked, now)?
        }
        PkiCommand::Publish => publish(global, &Authority::open(&dir)?).await?,
    };
    output::print(&text)?;
    Ok(Exit::Ok)
}

fn lifetime(how: &How) -> Option<Duration> {
    how.days.map(|days| Duration::days(days.into()))
}

/// Beside the client's configuration file.
fn usual() -> Result<PathBuf, Failure> {
    let config = address::config_path(|name| std::env::var(name).ok());
    let folder = config.as_deref().and_then(Path::parent).map(|folder| folder.join("pki"));
    folder.ok_or_else(|| {
        Failure::usage("no folder for the authority: HOME is not set").hint("give one with --dir")
    })
}

fn answer(
    global: &Global,
    authority: &Authority,
    issued: &Issued,
    now: OffsetDateTime,
) -> Result<String, Failure> {
    let folder = authority.folder_of(&issued.identity);
    if global.output != Format::Table {
        let mut value = value(issued, now);
        value["folder"] = json!(folder);
        return Ok(output::pretty(&value));
    }
    let to = match &issued.identity {
        Identity::Coordinator => {
            "the coordinator's host, and name it to the coordinator with --tls-dir".to_owned()
        }
        Identity::Worker(name) => {
            format!("the host of worker {name}, and name it to the worker with --tls-dir")
        }
        Identity::Client { name, .. } => {
            format!("~/.config/edgeprof/tls of {name}, where `edgeprof` finds it")
        }
    };
    Ok(format!(
        "certificate {} of {}, good until {}\ncopy {} to {to}\n",
        issued.serial,
        issued.identity,
        issued.until.date(),
        folder.display()
    ))
}

fn told(
    global: &Global,
    authority: &Authority,
    revoked: &[Issued],
    now: OffsetDateTime,
) -> Result<String, Failure> {
    if global.output != Format::Table {
        return Ok(output::pretty(&revoked.iter().map(|one| value(one, now)).collect::<Vec<_>>()));
    }
    let lines =
        revoked.iter().map(|one| format!("certificate {} of {} is revoked\n", one.serial, one.identity));
    Ok(format!(
        "{}`edgeprof pki publish` hands the list to the coordinator and its workers, which need no restart; or copy {} \
         over crl.pem of every daemon that is to refuse it\n",
        lines.collect::<String>(),
        authority.revocations().display()
    ))
}

async fn publish(global: &Global, authority: &Authority) -> Result<String, Failure> {
    let list = files::revocations(&authority.revocations()).map_err(PkiError::from)?;
    let client = global.connect().await?;
    let answer = client.publish_revocations(list.der()).await?;
    if global.output != Format::Table {
        return Ok(output::pretty(&output::value(&answer)?));
    }
    let PublishRevocationsResponse { number, revoked, known } = answer;
    let has = if known { "has had" } else { "has" };
    let those = if revoked == 1 { "1 certificate".to_owned() } else { format!("{revoked} certificates") };
    Ok(format!(
        "{} {has} list {number}, with {those} revoked, and hands it to its workers\n",
        client.address()
    ))
}

fn list(global: &Global, authority: &Authority, now: OffsetDateTime) -> Result<String, Failure> {
    let columns = ["name", "role", "state", "until", "serial", "reason"];
    let mut sheet = Sheet::new(columns.map(Column::words));
    for one in authority.issued() {
        let role = match &one.identity {
            Identity::Client { role, .. } => Some(role.to_string()),
            _ => None,
        };
        sheet.row([
            Some(names::path(&one.identity)),
            role,
            Some(one.standing(now).to_string()),
            Some(one.until.date().to_string()),
            Some(one.serial.to_string()),
            one.revoked.map(|(_, reason)| reason.to_string()),
        ]);
    }
    let items: Vec<_> = authority.issued().iter().map(|one| value(one, now)).collect();
    Ok(output::list(global.output, &items, &sheet.without_empty_columns(), "nothing was issued yet"))
}

fn value(one: &Issued, now: OffsetDateTime) -> Value {
    let moment = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    let mut value = json!({
        "name": names::path(&one.identity),
        "serial": one.serial.to_string(),
        "state": one.standing(now).to_string(),
        "from": moment(one.from),
        "until": moment(one.until),
    });
    if let Identity::Client { role, .. } = &one.identity {
        value["role"] = json!(role.to_string());
    }
    if let Some((at, reason)) = one.revoked {
        value["revoked"] = json!(moment(at));
        value["reason"] = json!(reason.to_string());
    }
    value
}
