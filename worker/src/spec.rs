//! What the coordinator asks for, checked and typed.

use edgeprof_boards::Kind;
use edgeprof_common::{BoardId, Digest, Epoch, ErrorClass, TaskError, TaskId, Token};
use edgeprof_link::{Kv, List, MAX_STOP_TOKENS};
use edgeprof_proto::v1;

/// A lease as a token.
pub const fn token(lease: &v1::Lease) -> Token {
    Token { epoch: Epoch(lease.epoch), counter: lease.counter }
}

/// A token as a lease.
pub const fn lease(token: Token) -> v1::Lease {
    v1::Lease { epoch: token.epoch.0, counter: token.counter }
}

/// Names an attempt: the right to run, the task, the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRef {
    /// The right.
    pub token: Token,
    /// The task.
    pub task: TaskId,
    /// The board.
    pub board: BoardId,
}

/// Ids as they came over the wire.
pub fn lease_ref(lease: Option<&v1::Lease>, task: &str, board: &str) -> Option<LeaseRef> {
    Some(LeaseRef { token: token(lease?), task: task.parse().ok()?, board: board.parse().ok()? })
}

/// One cell to run, checked against its board's kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The firmware's file.
    pub firmware: Digest,
    /// What the firmware's loaded segments must digest to, where the coordinator says.
    pub loaded: Option<Digest>,
    /// The board image.
    pub image: Digest,
    /// Depth, then prompt.
    pub tokens: Vec<u32>,
    /// How many of them are not counted.
    pub uncounted: u32,
    /// Tokens to generate at most.
    pub n_gen: u32,
    /// Tokens that end a run.
    pub stop_tokens: List<u32, MAX_STOP_TOKENS>,
    /// Context length.
    pub ctx: u32,
    /// Type of the KV cache.
    pub kv: Kv,
    /// Sampling temperature.
    pub temperature: f32,
    /// Seed of the sampler.
    pub seed: u64,
    /// Counted repetitions.
    pub repetitions: u32,
    /// Repetitions before them, discarded.
    pub warmup: u32,
}

/// Repetitions of one attempt at most.
const MAX_REPETITIONS: u32 = 10_000;

/// Counts of one attempt at most: a result is one message, and a message has 4 MiB at most.
const MAX_COUNTS: u64 = 250_000;

impl Spec {
    /// Counted prompt tokens.
    pub fn n_prompt(&self) -> u32 {
        u32::try_from(self.tokens.len()).unwrap_or(u32::MAX).saturating_sub(self.uncounted)
    }

    /// Tokens that there is context for, if fewer than were asked for.
    pub fn n_gen(&self) -> u32 {
        let left = self.ctx.saturating_sub(u32::try_from(self.tokens.len()).unwrap_or(u32::MAX));
        self.n_gen.min(left.saturating_add(1))
    }

    /// Checks a spec for a board of `kind`.
    ///
    /// # Errors
    /// Of class `request` where the spec contradicts itself, of class `model` where the board has no
    /// room for it.
    pub fn check(spec: &v1::AttemptSpec, kind: &Kind) -> Result<Self, TaskError> {
        let digest = |what: &str, text: &str| text.parse::<Digest>().map_err(|e| bad(format!("{what}: {e}")));
        let kv = match spec.kv.as_str() {
            "f32" => Kv::F32,
            "f16" => Kv::F16,
            "i8" => Kv::I8,
            other => return Err(bad(format!("unknown kv cache type {other:?}, expected f32, f16 or i8"))),
        };
        let n_tokens = u32::try_from(spec.tokens.len()).map_err(|_| bad("too many tokens"))?;
        if n_tokens == 0 || spec.n_depth >= n_tokens {
            return Err(bad(format!(
                "{} of {n_tokens} tokens are depth: no prompt token is left to count",
                spec.n_depth
            )));
        }
        if n_tokens > kind.max_prompt {
            return Err(bad(format!(
                "{n_tokens} tokens of prompt and depth, board kind {} takes {}",
                kind.name, kind.max_prompt
            )));
        }
        if spec.ctx < n_tokens {
            return Err(bad(format!("{n_tokens} tokens do not fit a context of {}", spec.ctx)));
        }
        if !(spec.temperature >= 0.0 && spec.temperature.is_finite()) {
            return Err(bad(format!("temperature {} is not a number from 0", spec.temperature)));
        }
        if spec.repetitions == 0 || spec.repetitions.saturating_add(spec.warmup) > MAX_REPETITIONS {
            return Err(bad(format!("repetitions and warmup together are 1 to {MAX_REPETITIONS}")));
        }
        let stop_tokens = List::from_slice(&spec.stop_tokens)
            .map_err(|_| bad(format!("at most {MAX_STOP_TOKENS} stop tokens")))?;
        let room = kind.memory.model.size;
        if spec.image_size > room {
            return Err(TaskError::new(
                ErrorClass::Model,
                "image_refused",
                format!(
                    "the board image has {} bytes, the model region of {} has {room}",
                    spec.image_size, kind.name
                ),
            )
            .with_hint("quantize further, or choose a larger board"));
        }
        let checked = Self {
            firmware: digest("firmware digest", &spec.firmware_digest)?,
            loaded: match spec.firmware_loaded_digest.as_str() {
                "" => None,
                text => Some(digest("digest of the loaded firmware", text)?),
            },
            image: digest("image digest", &spec.image_digest)?,
            tokens: spec.tokens.clone(),
            uncounted: spec.n_depth,
            n_gen: spec.n_gen,
            stop_tokens,
            ctx: spec.ctx,
            kv,
            temperature: spec.temperature,
            seed: spec.seed,
            repetitions: spec.repetitions,
            warmup: spec.warmup,
        };
        let each = u64::from(checked.n_prompt()) + u64::from(checked.n_gen());
        if each * u64::from(checked.repetitions) > MAX_COUNTS {
            return Err(bad(format!(
                "{} repetitions of {each} tokens are more than {MAX_COUNTS} counts, split the task",
                checked.repetitions
            )));
        }
        Ok(checked)
    }
}

fn bad(message: impl Into<String>) -> TaskError {
    TaskError::new(ErrorClass::Request, "bad_request", message)
}

#[cfg(test)]
pub(crate) mod tests {
    use edgeprof_boards::catalogue;

    use super::*;

    pub(crate) fn good() -> v1::AttemptSpec {
        v1::AttemptSpec {
            firmware_digest: Digest::of(b"firmware").to_string(),
            image_digest: Digest::of(b"image").to_string(),
            image_size: 5,
            tokens: vec![1, 2, 3],
            n_depth: 1,
            n_gen: 4,
            ctx: 8,
            kv: "f16".into(),
            repetitions: 1,
            ..v1::AttemptSpec::default()
        }
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_name() {
        let kind = catalogue().get("riscv32").unwrap();
        assert_eq!(Spec::check(&good(), kind).unwrap().n_prompt(), 2);
        type Change = fn(&mut v1::AttemptSpec);
        let cases: &[(Change, &str)] = &[
            (|s| s.kv = "f64".into(), "f64"),
            (|s| s.tokens.clear(), "no prompt token"),
            (|s| s.n_depth = 3, "no prompt token"),
            (|s| s.tokens = vec![1; 100_000], "takes"),
            (|s| s.ctx = 2, "context of 2"),
            (|s| s.temperature = f32::NAN, "temperature"),
            (|s| s.temperature = -1.0, "temperature"),
            (|s| s.repetitions = 0, "repetitions"),
            (|s| s.warmup = u32::MAX, "warmup"),
            (|s| (s.repetitions, s.ctx, s.n_gen) = (5_000, 100, 90), "split"),
            (|s| s.stop_tokens = vec![1; 5], "stop tokens"),
            (|s| s.image_digest = "md5:1".into(), "image digest"),
            (|s| s.firmware_digest.clear(), "firmware digest"),
            (|s| s.image_size = u64::MAX, "model region"),
        ];
        for (change, word) in cases {
            let mut spec = good();
            change(&mut spec);
            let error = Spec::check(&spec, kind).unwrap_err();
            assert!(error.message.contains(word), "{error} lacks {word}");
            assert!(!error.class.retryable());
        }
    }
}
