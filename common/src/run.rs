//! The run record, schema `edgeprof.run.v1`: one shape for the store, JSON, gRPC and tables.
//!
//! Times in nanoseconds, sizes in bytes, counts in units of the named counter. What was not obtained
//! is absent, never zero.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AttemptNo, BoardId, Digest, JobId, Kv, Quant, RunId, TaskError, TaskId, WorkerId};

/// The schema's name, in every record.
pub const SCHEMA: &str = "edgeprof.run.v1";

/// How a figure came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// A counter on real silicon, or a power meter.
    Measured,
    /// An instruction count from an emulator.
    Emulated,
    /// Derived through a named model, as a range.
    Estimated,
}

/// Whether the figures can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Every repetition agrees.
    Ok,
    /// Measured, but repetitions scatter more than they should.
    Unsteady,
    /// Ran, but the figures mean nothing: a wrong hash, a counter without meaning.
    Invalid,
    /// Did not run to its end.
    Failed,
    /// Not tried: it cannot fit or cannot be.
    Refused,
    /// Cancelled by a person.
    Cancelled,
}

/// Unit of the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Counter {
    /// Whole instructions retired.
    Instructions,
    /// Core clock cycles.
    Cycles,
    /// Nanoseconds of the device's own clock.
    Ns,
}

/// How far the output was checked against the same engine on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// Every logit's bits, by their hash.
    Hash,
    /// The tokens.
    Tokens,
    /// Not checked.
    None,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The asked number of tokens was generated.
    Length,
    /// The model ended its text.
    StopToken,
    /// The context is full.
    Context,
    /// Cancelled between two tokens.
    Cancelled,
}

macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type),* }
    };
}

record!(
    /// The recorded result of one task.
    RunRecord {
        /// Always `edgeprof.run.v1`.
        schema: String,
        /// This run.
        run_id: RunId,
        /// The job that asked for it.
        job_id: JobId,
        /// The task that it is the result of.
        task_id: TaskId,
        /// Number of the attempt that gave it; 0 where none was started.
        attempt: AttemptNo,
        /// Labels of the job.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
        /// The suite that the cell came from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        suite: Option<String>,
        /// The cell's name within its job, such as `q8_0 kv i8 p12 n32`.
        scenario: String,
        /// RFC 3339, by the coordinator's clock; absent where no attempt started.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        started_at: Option<String>,
        /// Whether the figures can be used.
        state: RunState,
        /// Why the state is what it is, in words.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reasons: Vec<String>,
        /// What failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<TaskError>,
        /// How the counts came to be; absent where there are none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provenance: Option<Provenance>,
        /// Where it ran; absent where no attempt started.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        board: Option<Board>,
        /// What would silently change a result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        environment: Option<Environment>,
        /// The inference engine.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        runtime: Option<Runtime>,
        /// What ran on the board.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        firmware: Option<Firmware>,
        /// The model.
        model: Model,
        /// What it was asked to do, and what came out.
        workload: Workload,
        /// The repetition nearest the median.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        counts: Option<Sample>,
        /// Every counted repetition.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        samples: Vec<Sample>,
        /// Only where measured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timing: Option<Timing>,
        /// Only on emulated boards.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        estimate: Option<Estimate>,
        /// What it took.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory: Option<Memory>,
        /// Metric name to summary over the repetitions.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        summary: BTreeMap<String, Summary>,
    }
);

record!(
    /// The board that a run came from.
    Board {
        /// `<worker>/<name>`.
        id: BoardId,
        /// Chip UID or probe serial; absent on emulated boards.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<String>,
        /// Entry of the board catalogue.
        kind: String,
        /// Core name.
        cpu: String,
        /// Instruction set with its extensions.
        isa: String,
        /// Core clock.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clock_hz: Option<u64>,
        /// The worker that owns it.
        worker: WorkerId,
        /// The board's labels.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
    }
);

record!(
    /// What would silently change a result.
    Environment {
        /// Program that emulates the board.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        emulator: Option<String>,
        /// Its version, as it prints it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        /// Emulated machine.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        machine: Option<String>,
        /// One instruction lasts 2^shift ns of emulated time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        icount_shift: Option<u32>,
    }
);

record!(
    /// The inference engine.
    Runtime {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
        /// Threads that computed.
        threads: u32,
    }
);

record!(
    /// What ran on the board.
    Firmware {
        /// Over its loaded segments.
        digest: Digest,
        /// As it reports it.
        version: String,
        /// The compiler that built it, as it reports it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        compiler: Option<String>,
    }
);

record!(
    /// The model of a run.
    Model {
        /// File name.
        name: String,
        /// Of the model file.
        digest: Digest,
        /// `gguf` or `llama2c`; absent where the file could not be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        format: Option<String>,
        /// Architecture.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arch: Option<String>,
        /// Number of parameters, tied ones once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        params: Option<u64>,
        /// How weights were stored on the board.
        quant: Quant,
        /// Bytes of weights on the board.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight_bytes: Option<u64>,
        /// Of the board image.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image_digest: Option<Digest>,
        /// Cache element type.
        kv: Kv,
        /// Context length in tokens.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ctx: Option<u32>,
    }
);

record!(
    /// What was asked, and what came out.
    Workload {
        /// Prompt tokens, BOS among them; absent where the prompt was never tokenized.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n_prompt: Option<u32>,
        /// Tokens actually generated; absent where none was tried.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n_gen: Option<u32>,
        /// Tokens of context filled before, not counted.
        n_depth: u32,
        /// Most tokens that were asked for.
        n_gen_max: u32,
        /// 0 is greedy.
        temperature: f32,
        /// Of the sampler.
        seed: u64,
        /// The prompt as the model sees it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        prompt_tokens: Vec<u32>,
        /// What the board generated.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        output_tokens: Vec<u32>,
        /// The same as text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output_text: Option<String>,
        /// Why generation ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop_reason: Option<StopReason>,
        /// FNV-1a-64 over every computed logit vector, 16 hex digits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        logits_hash: Option<String>,
        /// How far it was checked against the host's engine.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verification: Option<Verification>,
    }
);

record!(
    /// Counts of one repetition.
    Sample {
        /// What is counted.
        counter: Counter,
        /// Opening the image and laying out the arena.
        load: u64,
        /// One entry a pass over prompt tokens.
        prefill: Vec<u64>,
        /// Prompt tokens in each pass.
        prefill_tokens: Vec<u32>,
        /// One entry a generated token after the first.
        decode: Vec<u64>,
    }
);

record!(
    /// Speeds by the device's own clock.
    Timing {
        /// Time to first token.
        ttft_ns: u64,
        /// Mean time per output token after the first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tpot_ns: Option<u64>,
        /// Prompt processing speed.
        prefill_tokens_per_second: f64,
        /// Generation speed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decode_tokens_per_second: Option<f64>,
    }
);

record!(
    /// A range, both ends inclusive.
    Range {
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    }
);

record!(
    /// What real silicon of that kind would do, derived; never ranked beside a measured figure.
    Estimate {
        /// Always `estimated`.
        provenance: Provenance,
        /// Name of the model that it comes from.
        model: String,
        /// Core cycles a generated token.
        cycles: Range,
        /// Generation speed.
        decode_tokens_per_second: Range,
        /// `uncalibrated`, or the calibration's id.
        calibration: String,
    }
);

record!(
    /// What the run took on the board.
    Memory {
        /// High-water mark of the engine's arena.
        arena: u64,
        /// The part of it that is key-value cache.
        kv_cache: u64,
        /// Deepest stack, by painting.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stack_high_water: Option<u64>,
        /// Statics of the firmware.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        static_ram: Option<u64>,
        /// Code and constants of the firmware.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        flash_code: Option<u64>,
        /// The board image.
        flash_weights: u64,
        /// How it was found.
        method: String,
    }
);

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Smaller is better.
    Lower,
    /// Larger is better.
    Higher,
}

record!(
    /// A metric over the repetitions of a run.
    Summary {
        /// Unit of every figure here.
        unit: String,
        /// Which way is better.
        direction: Direction,
        /// Repetitions.
        n: u32,
        /// Middle value.
        median: f64,
        /// Arithmetic mean.
        mean: f64,
        /// Sample standard deviation; absent below two repetitions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sd: Option<f64>,
        /// 95 % confidence interval of the mean; absent below two repetitions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ci95: Option<Range>,
        /// 90th percentile.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        p90: Option<f64>,
        /// Repetitions discarded before.
        discarded_warmups: u32,
    }
);

/// The JSON Schema of a run record, from the types above.
pub fn json_schema() -> schemars::Schema {
    schemars::schema_for!(RunRecord)
}
