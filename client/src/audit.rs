//! `edgeprof audit`: who changed what, and what was refused.

use edgeprof_client::AuditEntry;
use edgeprof_report::{Column, Sheet};

use crate::{
    args::Global,
    exit::{Exit, Failure},
    output::{self, Format},
};

/// `edgeprof audit`
pub(crate) async fn list(
    global: &Global,
    who: Option<&str>,
    since: Option<&str>,
    limit: usize,
) -> Result<Exit, Failure> {
    let client = global.connect().await?;
    let mut entries = client.audit(who, since, limit).await?;
    // As it happened.
    entries.reverse();
    let items = entries.iter().map(output::value).collect::<Result<Vec<_>, _>>()?;
    output::print(&output::list(
        global.output,
        &items,
        &sheet(global.output, &entries),
        "nothing was changed",
    ))?;
    Ok(Exit::Ok)
}

fn sheet(format: Format, entries: &[AuditEntry]) -> Sheet {
    let columns = ["at", "who", "role", "via", "from", "rpc", "target", "outcome", "detail"];
    let figures = [Column::figures("unlisted", None), Column::figures("number", None)];
    let mut sheet = Sheet::new(columns.map(Column::words).into_iter().chain(figures));
    for entry in entries {
        let filled = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        sheet.row([
            filled(&entry.at),
            filled(&entry.who),
            entry.role.clone(),
            entry.via.clone(),
            filled(&entry.from),
            filled(&entry.rpc),
            filled(&entry.target),
            filled(&entry.outcome),
            filled(&entry.detail),
            Some(entry.unlisted).filter(|count| *count > 0).map(|count| count.to_string()),
            Some(entry.number.to_string()),
        ]);
    }
    match format {
        Format::Table => output::fitting(sheet.without_empty_columns(), &["number", "role", "from", "via"]),
        _ => sheet,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_table_says_who_did_what_and_what_became_of_it() {
        let entry = AuditEntry {
            number: 7,
            at: "2026-01-01T00:00:00.25Z".into(),
            who: "nightly".into(),
            role: Some("submitter".into()),
            via: Some("token".into()),
            from: "10.0.0.7:40312".into(),
            rpc: "SubmitJob".into(),
            target: "j0000000000001".into(),
            detail: "4 tasks".into(),
            outcome: "done".into(),
            unlisted: 0,
        };
        let refused = AuditEntry {
            number: 8,
            who: String::new(),
            role: None,
            via: None,
            rpc: "CancelJob".into(),
            target: String::new(),
            detail: "who calls has shown neither certificate nor token".into(),
            outcome: "refused".into(),
            unlisted: 12,
            ..entry.clone()
        };
        expect![[r#"
            at,who,role,via,from,rpc,target,outcome,detail,unlisted,number
            2026-01-01T00:00:00.25Z,nightly,submitter,token,10.0.0.7:40312,SubmitJob,j0000000000001,done,4 tasks,,7
            2026-01-01T00:00:00.25Z,,,,10.0.0.7:40312,CancelJob,,refused,who calls has shown neither certificate nor token,12,8
        "#]]
        .assert_eq(&sheet(Format::Csv, &[entry, refused]).csv());
    }
}
