//! What says who calls, and what for.

use std::sync::OnceLock;

use edgeprof_coordinator::{
    access::bearer,
    api::audit::{Asked, page},
    store::{
        Memory, Store, Transaction,
        rows::{self, AuditRow, Outcome, key},
    },
};
use edgeprof_proto::v1;
use edgeprof_service::telemetry::trace;
use prost::Message;

/// An `authorization` header: what opens is the end of it, and nothing beside the scheme is left out.
pub(crate) fn authorization(bytes: &[u8]) {
    let Some(secret) = bearer(bytes) else { return };
    let text = std::str::from_utf8(bytes).expect("text, if anything was found in it");
    assert!(text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer ")), "{text:?}");
    assert!(text.trim_end().ends_with(secret), "{text:?}");
    assert_eq!(bearer(format!("Bearer {secret}").as_bytes()), Some(secret));
}

/// The `traceparent` of a job or an attempt: what is understood is written as version 00 has it.
pub(crate) fn traceparent(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(context) = trace::from_text(text) else { return };
    let written = trace::to_text(&context);
    assert_eq!(written.len(), 55, "{written}");
    assert_eq!(trace::from_text(&written), Some(context));
}

/// A question for the log of who did what, and all that follow from its answer's cursor.
pub(crate) fn audit(bytes: &[u8]) {
    let Ok(mut request) = v1::ListAuditRequest::decode(bytes) else { return };
    let mut seen = u64::MAX;
    loop {
        let Ok(asked) = Asked::of(request.clone()) else { return };
        let answer = page(log(), &asked).expect("the log is sound");
        assert!(answer.entries.iter().all(|entry| request.who.is_empty() || entry.who == request.who));
        for entry in answer.entries {
            assert!(entry.number < seen, "each once, the newest first");
            seen = entry.number;
        }
        let Some(next) = answer.next else { return };
        assert!(request.before == 0 || next < request.before, "it comes to an end");
        request.before = next;
    }
}

/// Thirty entries of two people.
fn log() -> &'static Memory {
    static LOG: OnceLock<Memory> = OnceLock::new();
    LOG.get_or_init(|| {
        let (log, mut transaction) = (Memory::default(), Transaction::default());
        for number in 5..35 {
            let row = AuditRow {
                at: number * 1000,
                who: if number % 3 == 0 { "ann" } else { "bob" }.into(),
                role: None,
                via: None,
                from: String::new(),
                rpc: "CancelJob".into(),
                target: String::new(),
                detail: String::new(),
                outcome: Outcome::Done,
                unlisted: 0,
            };
            transaction.put(key::audit(number), rows::encode(&row));
        }
        log.commit(&[transaction]).expect("memory takes it");
        log
    })
}
