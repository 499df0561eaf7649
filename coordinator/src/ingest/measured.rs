//! A worker's measurement, checked.

use edgeprof_common::run::{Environment, Firmware, Memory, Provenance, Sample, StopReason};
use edgeprof_proto::{bridge, v1};
use serde::de::DeserializeOwned;

/// A measurement that contradicts itself or the contract.
#[derive(Debug, thiserror::Error)]
#[error("the result cannot be read: {0}")]
pub struct Undecodable(String);

/// What one attempt gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// How the counts came to be; absent where there are none.
    pub provenance: Option<Provenance>,
    /// What would silently change a result.
    pub environment: Option<Environment>,
    /// What ran; absent where nothing was counted.
    pub firmware: Option<Firmware>,
    /// Of the engine.
    pub engine_version: String,
    /// Counted repetitions.
    pub samples: Vec<Sample>,
    /// Repetitions before them.
    pub discarded_warmups: u32,
    /// What was generated.
    pub output_tokens: Vec<u32>,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// 16 hex digits, where the board gave one.
    pub logits_hash: Option<String>,
    /// What it took; absent where nothing was counted.
    pub memory: Option<Memory>,
    /// Why the figures mean nothing, in words.
    pub reasons: Vec<String>,
    /// Of the chip.
    pub uid: Option<String>,
}

impl Measured {
    /// Takes a message apart.
    ///
    /// # Errors
    /// What is missing, outside its vocabulary, or of another length than it says.
    pub fn parse(message: &v1::Measurement) -> Result<Self, Undecodable> {
        let samples: Vec<Sample> = message
            .samples
            .iter()
            .map(|sample| bridge("sample", sample).map_err(wrong))
            .collect::<Result<_, _>>()?;
        if samples.is_empty() && message.reasons.is_empty() {
            return Err(Undecodable("no repetition, and no reason why".into()));
        }
        let decoded = message.output_tokens.len().saturating_sub(1);
        for (number, sample) in (1..).zip(&samples) {
            if sample.prefill.len() != sample.prefill_tokens.len() || sample.prefill.is_empty() {
                let (a, b) = (sample.prefill.len(), sample.prefill_tokens.len());
                return Err(Undecodable(format!(
                    "repetition {number} has {a} prefill passes with {b} lengths"
                )));
            }
            if sample.decode.len() != decoded && message.reasons.is_empty() {
                let n = sample.decode.len();
                return Err(Undecodable(format!(
                    "repetition {number} counted {n} generated tokens after the first, there are {decoded}"
                )));
            }
            if sample.counter != samples[0].counter {
                return Err(Undecodable("repetitions were counted in different units".into()));
            }
        }
        let counted = !samples.is_empty();
        if counted && message.memory.is_none() {
            return Err(Undecodable("no memory".into()));
        }
        if counted && message.firmware.is_none() {
            return Err(Undecodable("no firmware".into()));
        }
        let provenance = match message.provenance.as_str() {
            "" if !counted => None,
            text => Some(word("provenance", text)?),
        };
        let hash = &message.logits_hash;
        if !hash.is_empty() && (hash.len() != 16 || !hash.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Err(Undecodable(format!("logits hash {hash:?} is not 16 hex digits")));
        }
        Ok(Self {
            provenance,
            environment: message
                .environment
                .as_ref()
                .map(|environment| bridge("environment", environment).map_err(wrong))
                .transpose()?,
            firmware: message
                .firmware
                .as_ref()
                .map(|firmware| bridge("firmware", firmware).map_err(wrong))
                .transpose()?,
            engine_version: message.engine_version.clone(),
            samples,
            discarded_warmups: message.discarded_warmups,
            output_tokens: message.output_tokens.clone(),
            stop_reason: word("stop reason", &message.stop_reason)?,
            logits_hash: (!hash.is_empty()).then(|| hash.to_ascii_lowercase()),
            memory: message
                .memory
                .as_ref()
                .map(|memory| bridge("memory", memory).map_err(wrong))
                .transpose()?,
            reasons: message.reasons.clone(),
            uid: message.uid.clone(),
        })
    }
}

fn wrong(error: edgeprof_proto::BridgeError) -> Undecodable {
    Undecodable(error.to_string())
}

fn word<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, Undecodable> {
    serde_json::from_value(serde_json::Value::from(text))
        .map_err(|_| Undecodable(format!("unknown {what} {text:?}")))
}
