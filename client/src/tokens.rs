//! Tokens, and who one is.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use edgeprof_client::{AccessToken, ClientError};
use edgeprof_common::Role;
use edgeprof_report::{Column, Sheet, printable};

use crate::{
    args::{Global, TokenCommand},
    exit::{Exit, Failure},
    output::{self, Format, say},
};

/// `edgeprof whoami`
pub(crate) async fn whoami(global: &Global) -> Result<Exit, Failure> {
    let client = global.connect().await?;
    let me = client.who_am_i().await?;
    let mut sheet = Sheet::new(["name", "role", "via", "from"].map(Column::words));
    sheet.row([&me.name, &me.role, &me.via, &me.from].map(|text| Some(text.clone())));
    let item = output::value(&me)?;
    output::print(&match global.output {
        Format::Table if me.via == "loopback" => {
            printable(&format!("{}: the coordinator asks nobody who they are\n", me.role))
        }
        Format::Table => printable(&format!("{}, {} by {}\n", me.name, me.role, me.via)),
        Format::Json => output::pretty(&item),
        format => output::list(format, &[item], &sheet, ""),
    })?;
    Ok(Exit::Ok)
}

/// `edgeprof token …`
pub(crate) async fn token(global: &Global, command: TokenCommand) -> Result<Exit, Failure> {
    match command {
        TokenCommand::Issue { name, role, expires, only, to } => {
            issue(global, &name, role, expires, &only, to).await
        }
        TokenCommand::List => {
            let tokens = global.connect().await?.tokens().await?;
            print(global.output, &tokens)
        }
        TokenCommand::Revoke { name } => {
            let token = global.connect().await?.revoke_token(&name).await?;
            if global.output != Format::Table {
                return print(global.output, &[token]);
            }
            output::print(&printable(&format!("the token of {name} opens nothing any more\n")))?;
            Ok(Exit::Ok)
        }
    }
}

async fn issue(
    global: &Global,
    name: &str,
    role: Role,
    expires: Duration,
    only: &[String],
    to: Option<PathBuf>,
) -> Result<Exit, Failure> {
    // Before there is anything to write: a token that nobody can keep is none.
    let file = to.as_deref().map(new_file).transpose()?;
    let client = global.connect().await?;
    let issued = client.issue_token(name, role, expires, only).await;
    let issued = issued.map_err(|error| {
        if let Some(path) = &to {
            // It is ours, and empty.
            let _ = std::fs::remove_file(path);
        }
        let lost = matches!(error, ClientError::Lost { .. });
        let failure = Failure::from(error);
        if lost {
            failure.only_hint(format!("if it was made, nobody has it: edgeprof token revoke {name}"))
        } else {
            failure
        }
    })?;
    let about = issued.about.unwrap_or_default();
    if let (Some(path), Some(mut file)) = (&to, file) {
        let written =
            file.write_all(format!("{}\n", issued.secret).as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|error| {
            Failure::usage(format!("cannot write {}: {error}", path.display()))
                .hint(format!("the token is lost: edgeprof token revoke {name}"))
        })?;
    }
    let mut item = output::value(&about)?;
    if to.is_none() {
        item["secret"] = issued.secret.clone().into();
    }
    output::print(&match (global.output, &to) {
        (Format::Table, Some(path)) => printable(&format!(
            "{} has the token of {name}, good until {}\n",
            path.display(),
            about.expires_at
        )),
        // Alone on its line, for a script to take.
        (Format::Table, None) => format!("{}\n", printable(&issued.secret)),
        (Format::Json, _) => output::pretty(&item),
        (Format::Jsonl, _) => format!("{item}\n"),
        (format @ (Format::Csv | Format::Md), _) => {
            let secret = Some(issued.secret).filter(|_| to.is_none());
            output::list(format, &[item], &sheet(std::slice::from_ref(&about), secret.as_deref()), "")
        }
    })?;
    if global.output == Format::Table && to.is_none() {
        say(&printable(&format!(
            "this is the only time that the token of {name} is shown; good until {}\n",
            about.expires_at
        )));
    }
    Ok(Exit::Ok)
}

/// A new file that nobody else can read.
fn new_file(path: &Path) -> Result<File, Failure> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| {
        Failure::usage(format!("cannot make {}: {error}", path.display()))
            .hint("name a file that is not there yet")
    })
}

fn print(format: Format, tokens: &[AccessToken]) -> Result<Exit, Failure> {
    let items = tokens.iter().map(output::value).collect::<Result<Vec<_>, _>>()?;
    let sheet = match format {
        Format::Table => {
            output::fitting(sheet(tokens, None).without_empty_columns(), &["issued by", "issued"])
        }
        _ => sheet(tokens, None),
    };
    output::print(&output::list(
        format,
        &items,
        &sheet,
        "no tokens: edgeprof token issue NAME --role ROLE makes one",
    ))?;
    Ok(Exit::Ok)
}

fn sheet(tokens: &[AccessToken], secret: Option<&str>) -> Sheet {
    let columns = ["token", "role", "only", "expires", "last used", "issued", "issued by", "expired"];
    let secret_column = secret.map(|_| Column::words("secret"));
    let mut sheet = Sheet::new(columns.map(Column::words).into_iter().chain(secret_column));
    for token in tokens {
        let row = [
            Some(token.name.clone()),
            Some(token.role.clone()),
            Some(token.only.join(",")).filter(|text| !text.is_empty()),
            Some(token.expires_at.clone()),
            token.used_at.clone(),
            Some(token.issued_at.clone()),
            Some(token.issued_by.clone()),
            token.expired.then(|| "expired".to_owned()),
        ];
        sheet.row(row.into_iter().chain(secret.map(|text| Some(text.to_owned()))));
    }
    sheet
}
