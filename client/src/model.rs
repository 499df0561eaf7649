//! `edgeprof model`.

use std::path::Path;

use edgeprof_client::ClientError;
use edgeprof_model::{Inspection, ModelError, TokenizerInfo};
use edgeprof_report::{Column, Sheet, number};

use crate::{
    args::Global,
    exit::{Exit, Failure},
    output::{self, Format},
};

/// `edgeprof model inspect`
pub(crate) fn inspect(global: &Global, path: &Path) -> Result<Exit, Failure> {
    let found = edgeprof_model::inspect(path).map_err(|error| {
        let hint = Some(error.hint());
        Failure::from(match error {
            ModelError::Io { path, source } => ClientError::File { path, source },
            error => ClientError::Model { path: path.to_owned(), message: error.to_string(), hint },
        })
    })?;
    let value = serde_json::to_value(&found).expect("plain data is JSON");
    let sheet = sheet(&found);
    output::print(&match global.output {
        Format::Json => output::pretty(&value),
        Format::Jsonl => format!("{value}\n"),
        Format::Csv => sheet.csv(),
        Format::Md => sheet.markdown(),
        Format::Table => sheet.table(),
    })?;
    Ok(Exit::Ok)
}

fn sheet(found: &Inspection) -> Sheet {
    let mut sheet = Sheet::new([Column::words("property"), Column::words("value")]);
    let mut row = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            sheet.row([Some(name.to_owned()), Some(value)]);
        }
    };
    row("format", Some(found.format.clone()));
    row("architecture", found.arch.clone());
    row("name", found.name.clone());
    row("license", found.license.clone());
    row("parameters", Some(format!("{} ({})", number::grouped(found.params), number::params(found.params))));
    row("file", Some(number::bytes(found.file_bytes)));
    let weights = found.weight_bytes.map_or_else(|| "unknown".to_owned(), number::bytes);
    row("weights", Some(format!("{weights} in {} tensors", found.tensors)));
    for share in &found.quantization {
        let text = format!(
            "{} tensors, {} parameters, {}",
            share.tensors,
            number::params(share.params),
            share.bytes.map_or_else(|| "unknown size".to_owned(), number::bytes)
        );
        row(&format!("  {}", share.r#type), Some(text));
    }
    if let Some(dims) = &found.dims {
        row("layers", Some(dims.layers.to_string()));
        row("dimensions", Some(format!("{}, feed-forward {}", dims.dim, dims.hidden_dim)));
        let heads = format!("{}, {} for keys and values, {} wide", dims.heads, dims.kv_heads, dims.head_dim);
        row("heads", Some(heads));
        row("vocabulary", Some(number::grouped(dims.vocab.into())));
        row("trained context", Some(format!("{} tokens", number::grouped(dims.context.into()))));
    }
    row(
        "tokenizer",
        match &found.tokenizer {
            Some(TokenizerInfo { kind, tokens: Some(n), .. }) => {
                Some(format!("{kind}, {} tokens", number::grouped(*n)))
            }
            Some(TokenizerInfo { kind, .. }) => Some(kind.clone()),
            None => Some("none in the file".to_owned()),
        },
    );
    row("runs here", Some(if found.supported { "yes".to_owned() } else { "no".to_owned() }));
    row("reason", found.reason.clone());
    row("hint", found.hint.clone());
    sheet
}
