//! A name that nobody has: which are close to it.

use edgeprof_client::{Client, ClientError};

use crate::exit::Failure;

/// Names at least so like the typed one are taken for what was meant.
const CLOSE: f64 = 0.6;

/// So many are offered at most.
const MOST: usize = 5;

/// What is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Worker,
    Board,
}

/// The answer, or the failure with the names that are close where the coordinator does not know this one.
pub(crate) async fn checked<T>(
    client: &Client,
    kind: Kind,
    name: &str,
    answer: Result<T, ClientError>,
) -> Result<T, Failure> {
    let error = match answer {
        Ok(answer) => return Ok(answer),
        Err(error) => error,
    };
    let unknown = matches!(
        &error,
        ClientError::Refused { code: tonic::Code::NotFound | tonic::Code::InvalidArgument, .. }
    );
    let failure = Failure::from(error);
    if !unknown {
        return Err(failure);
    }
    let known: Result<Vec<String>, ClientError> = match kind {
        Kind::Worker => client.workers().await.map(|list| list.into_iter().map(|worker| worker.id).collect()),
        Kind::Board => client.boards(&[]).await.map(|list| list.into_iter().map(|board| board.id).collect()),
    };
    // A hint is not worth an error of its own, and a list that failed is not an empty one.
    Err(match known {
        Ok(known) if !known.iter().any(|known| known == name) => {
            failure.only_hint(advice(kind, name, &known))
        }
        _ => failure,
    })
}

/// The way out of a name that is not known.
pub(crate) fn advice(kind: Kind, name: &str, known: &[String]) -> String {
    let (list, none) = match kind {
        Kind::Worker => ("edgeprof workers lists them", "no worker has joined yet"),
        Kind::Board => ("edgeprof boards lists them", "no worker has joined yet: edgeprof workers"),
    };
    if known.is_empty() {
        return none.into();
    }
    let like = |known: &str| {
        let within = name.len() > 2 && (known.contains(name) || name.contains(known));
        if within { 1.0 } else { strsim::normalized_damerau_levenshtein(name, known) }
    };
    let mut close: Vec<_> =
        known.iter().map(|known| (like(known), known.as_str())).filter(|(like, _)| *like >= CLOSE).collect();
    close.sort_by(|(a, one), (b, other)| b.total_cmp(a).then(one.cmp(other)));
    close.truncate(MOST);
    match close.as_slice() {
        [] => list.into(),
        close => {
            let names: Vec<_> = close.iter().map(|(_, name)| *name).collect();
            format!("did you mean {}? {list}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_close_come_closest_first_and_not_too_many() {
        let known: Vec<String> = (0..20).map(|i| format!("host-1/riscv32.{i}")).collect();
        let some = ["host-2/mps2-an386.0".to_owned(), "host-1/riscv32.0".to_owned()];
        let board = |name: &str, known: &[String]| advice(Kind::Board, name, known);
        assert_eq!(board("riscv32.0", &some), "did you mean host-1/riscv32.0? edgeprof boards lists them");
        assert_eq!(
            board("host-1/riscv23.0", &some),
            "did you mean host-1/riscv32.0? edgeprof boards lists them"
        );
        assert_eq!(board("riscv32", &known).matches("host-1/").count(), MOST);
        assert_eq!(board("teapot", &some), "edgeprof boards lists them");
        assert_eq!(advice(Kind::Worker, "teapot", &[]), "no worker has joined yet");
    }
}
