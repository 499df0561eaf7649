//! The canary: a tiny model whose result is known, run on boards that failed. One that computes it right is good.

use std::{collections::HashMap, sync::Mutex};

use edgeprof_common::{ErrorClass, TaskError};
use edgeprof_model::{KvType, Model, ModelError, Quant, build_image, reference, tiny};
use edgeprof_proto::v1;

use crate::{
    artifacts::{Artifacts, Hold, UploadError, firmware::Folders},
    ingest::Measured,
    store::rows::FirmwarePin,
};

/// The beginning of a text, and three bytes.
const PROMPT: [u32; 4] = [1, 68, 69, 70];
const GENERATED: u32 = 8;
const CONTEXT: u32 = 16;
const SEED: u64 = 1;

/// Why there is no canary.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    /// The built-in model cannot be used.
    #[error("the canary cannot be made: {0}")]
    Model(#[from] ModelError),
    /// Its image cannot be kept.
    #[error("the canary cannot be kept: {0}")]
    Keep(#[from] UploadError),
}

/// What to run, and what has to come out.
#[derive(Debug)]
pub struct Canary {
    image: edgeprof_common::Digest,
    size: u64,
    tokens: Vec<u32>,
    logits_hash: String,
    artifacts: Artifacts,
    folders: Folders,
    /// Of each kind that was asked for.
    firmware: Mutex<HashMap<String, FirmwarePin>>,
    _hold: Hold,
}

impl Canary {
    /// Computes it on this machine, and keeps its image as an artifact.
    ///
    /// # Errors
    /// When the image cannot be kept.
    pub fn new(artifacts: &Artifacts, folders: Folders) -> Result<Self, CanaryError> {
        let model = Model::load(&tiny::model(), Some(&tiny::tokenizer()))?;
        let image = build_image(&model, Quant::Q8_0)?;
        let request = reference::Request {
            prompt: &PROMPT,
            n_gen: GENERATED,
            temperature: 0.0,
            seed: SEED,
            stop_tokens: &[],
            ctx: CONTEXT,
            kv: KvType::F16,
        };
        let outcome = reference::run(&image, &request)?;
        let digest = artifacts.keep(&image)?;
        Ok(Self {
            image: digest,
            size: image.len() as u64,
            tokens: outcome.tokens,
            logits_hash: format!("{:016x}", outcome.logits_hash),
            artifacts: artifacts.clone(),
            folders,
            firmware: Mutex::default(),
            _hold: artifacts.hold([digest]),
        })
    }

    /// What a board of this kind is to run; nothing where there is no firmware for it. Reads the firmware's
    /// file once a kind.
    pub fn spec(&self, kind: &str) -> Option<v1::AttemptSpec> {
        let firmware = self.firmware(kind)?;
        Some(v1::AttemptSpec {
            firmware_digest: firmware.file.to_string(),
            firmware_size: firmware.size,
            firmware_loaded_digest: firmware.loaded.to_string(),
            image_digest: self.image.to_string(),
            image_size: self.size,
            tokens: PROMPT.to_vec(),
            n_depth: 0,
            n_gen: GENERATED,
            stop_tokens: Vec::new(),
            ctx: CONTEXT,
            kv: "f16".into(),
            temperature: 0.0,
            seed: SEED,
            repetitions: 1,
            warmup: 0,
        })
    }

    fn firmware(&self, kind: &str) -> Option<FirmwarePin> {
        let mut known = self.firmware.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(pin) = known.get(kind).filter(|pin| self.artifacts.spare(&pin.file)) {
            return Some(*pin);
        }
        match self.folders.import(&self.artifacts, kind) {
            Ok(pin) => {
                known.insert(kind.to_owned(), pin);
                Some(pin)
            }
            Err(error) => {
                tracing::warn!(%kind, %error, "a board that failed goes without a canary run");
                None
            }
        }
    }

    /// Whether a board computed what this machine did.
    ///
    /// # Errors
    /// What differs.
    pub fn judge(&self, measured: &Measured) -> Result<(), TaskError> {
        let hash = measured.logits_hash.as_ref();
        if measured.output_tokens == self.tokens && hash.is_none_or(|hash| *hash == self.logits_hash) {
            return Ok(());
        }
        let hash = hash.map_or("none", String::as_str);
        let what = format!("its canary run gave logits hash {hash}, on the host it is {}", self.logits_hash);
        Err(TaskError::new(ErrorClass::Infrastructure, "canary_differs", what)
            .with_hint("look at the board's power, clock and memory; `edgeprof board check` may tell more"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{artifacts::firmware::tests::folder_with, ingest::tests::message};

    fn measured(output_tokens: Vec<u32>, logits_hash: Option<String>) -> Measured {
        Measured { output_tokens, logits_hash, ..Measured::parse(&message()).unwrap() }
    }

    #[test]
    fn only_what_this_machine_computes_passes() {
        let data = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(data.path(), u64::MAX).unwrap();
        let canary = Canary::new(&artifacts, folder_with(data.path(), "riscv32")).unwrap();
        let spec = canary.spec("riscv32").unwrap();
        assert_eq!(artifacts.size(&spec.image_digest.parse().unwrap()), Some(spec.image_size));
        assert_eq!(artifacts.size(&spec.firmware_digest.parse().unwrap()), Some(spec.firmware_size));
        assert_eq!(canary.spec("riscv64"), None);

        let right = (canary.tokens.clone(), Some(canary.logits_hash.clone()));
        assert_eq!(canary.judge(&measured(right.0.clone(), right.1)), Ok(()));
        assert_eq!(canary.judge(&measured(right.0.clone(), None)), Ok(()));
        let error = canary.judge(&measured(right.0, Some("0".repeat(16)))).unwrap_err();
        assert!(error.class.retryable() && error.message.contains(&canary.logits_hash), "{error}");
        assert!(canary.judge(&measured(Vec::new(), None)).is_err());
    }
}
