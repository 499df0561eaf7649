//! From raw repetitions to what is recorded. Pure.

use edgeprof_boards::Kind;
use edgeprof_link::{BoardHello, Stop};
use edgeprof_proto::v1;

use crate::{board::run::Repetition, firmware::Firmware};

/// Everything that a measurement is made from.
#[derive(Debug)]
pub struct Raw<'a> {
    /// The board's kind.
    pub kind: &'a Kind,
    /// What the board said of itself.
    pub hello: &'a BoardHello,
    /// What its firmware's file said.
    pub firmware: &'a Firmware,
    /// What stood behind the counter.
    pub counted: Counted<'a>,
    /// Size of the board image.
    pub image_bytes: u64,
    /// Counted repetitions and why each ended; not empty.
    pub repetitions: &'a [(Repetition, Stop)],
    /// Warmups before them.
    pub warmups: u32,
    /// Identity of the chip or its probe.
    pub uid: Option<String>,
}

/// What stood behind the board's counter.
#[derive(Clone, Copy, Debug)]
pub enum Counted<'a> {
    /// The kind's emulator: the counter tells instructions.
    Emulated {
        /// As it prints it; absent where somebody else started it.
        version: Option<&'a str>,
    },
    /// Silicon: the counter tells time.
    OnSilicon,
}

/// Puts a measurement together. A count that is no whole number of instructions is not recorded: its
/// repetition has no sample, and a reason says so.
pub fn assemble(raw: &Raw<'_>) -> v1::Measurement {
    let Raw { kind, hello, .. } = raw;
    let mut reasons = Vec::new();
    if hello.tick_hz != kind.counter.tick_hz || *hello.counter != *kind.counter.name {
        reasons.push(format!(
            "the board counts {} at {} ticks a second, its kind {} at {}",
            hello.counter, hello.tick_hz, kind.counter.name, kind.counter.tick_hz
        ));
    }
    let mut samples = Vec::new();
    for (number, (repetition, _)) in raw.repetitions.iter().enumerate() {
        match sample(raw, repetition) {
            Ok(sample) => samples.push(sample),
            Err(what) => reasons.push(format!("repetition {}: {what}", number + 1)),
        }
    }
    let (first, stop) = raw.repetitions.first().cloned().unwrap_or((Repetition::default(), Stop::Cancelled));
    for (number, (other, other_stop)) in raw.repetitions.iter().enumerate().skip(1) {
        if other.tokens != first.tokens || *other_stop != stop {
            reasons.push(format!("repetition {} generated other tokens than the first", number + 1));
        }
        if other.logits_hash != first.logits_hash {
            reasons.push(format!(
                "repetition {} has logits hash {:016x}, the first {:016x}",
                number + 1,
                other.logits_hash,
                first.logits_hash
            ));
        }
    }
    let most = |get: fn(&Repetition) -> u32| {
        raw.repetitions.iter().map(|(r, _)| u64::from(get(r))).max().unwrap_or(0)
    };
    v1::Measurement {
        provenance: match raw.counted {
            Counted::Emulated { .. } => "emulated".into(),
            Counted::OnSilicon => "measured".into(),
        },
        environment: match raw.counted {
            Counted::Emulated { version } => Some(environment(kind, version)),
            Counted::OnSilicon => None,
        },
        firmware: Some(v1::RunFirmware {
            digest: raw.firmware.loaded.to_string(),
            version: hello.firmware_version.to_string(),
            compiler: raw.firmware.compiler.clone(),
        }),
        engine_version: hello.engine_version.to_string(),
        samples,
        discarded_warmups: raw.warmups,
        output_tokens: first.tokens,
        stop_reason: stop_word(stop).into(),
        logits_hash: format!("{:016x}", first.logits_hash),
        memory: Some(v1::Memory {
            arena: most(|r| r.arena_used),
            kv_cache: most(|r| r.kv_bytes),
            stack_high_water: Some(most(|r| r.stack_high_water)),
            static_ram: Some(u64::from(hello.static_ram)),
            flash_code: Some(u64::from(hello.flash_code)),
            flash_weights: raw.image_bytes,
            method: "arena high-water mark, stack painting, section sizes".into(),
        }),
        reasons,
        uid: raw.uid.clone(),
    }
}

fn sample(raw: &Raw<'_>, repetition: &Repetition) -> Result<v1::Sample, String> {
    let kind = raw.kind;
    let overhead = u64::from(raw.hello.overhead_ticks);
    let count = |what: &str, ticks: u64| match (raw.counted, kind.counter.silicon_hz) {
        (Counted::Emulated { .. }, _) => kind
            .interval_instructions(ticks, overhead)
            .ok_or_else(|| format!("{ticks} ticks of {what} are no whole number of instructions")),
        (Counted::OnSilicon, Some(hz)) => {
            let nanos = u128::from(ticks.saturating_sub(overhead)) * 1_000_000_000 / u128::from(hz.max(1));
            u64::try_from(nanos).map_err(|_| format!("{ticks} ticks of {what} are too many"))
        }
        (Counted::OnSilicon, None) => Err(format!("{} is not known as silicon", kind.name)),
    };
    let mut prefill = Vec::with_capacity(repetition.prefill.len());
    for (_, ticks) in &repetition.prefill {
        prefill.push(count("prefill", *ticks)?);
    }
    let mut decode = Vec::with_capacity(repetition.decode.len());
    for ticks in &repetition.decode {
        decode.push(count("decode", *ticks)?);
    }
    Ok(v1::Sample {
        counter: match raw.counted {
            Counted::Emulated { .. } => kind.counter.name.clone(),
            Counted::OnSilicon => "ns".into(),
        },
        load: count("load", repetition.load)?,
        prefill,
        prefill_tokens: repetition.prefill.iter().map(|(tokens, _)| *tokens).collect(),
        decode,
    })
}

fn environment(kind: &Kind, version: Option<&str>) -> v1::Environment {
    let emulator = kind.emulator.as_ref();
    v1::Environment {
        emulator: emulator.map(|e| e.program.clone()),
        version: version.map(str::to_owned),
        machine: emulator.map(|e| e.machine.clone()),
        icount_shift: emulator.map(|e| e.icount_shift),
    }
}

const fn stop_word(stop: Stop) -> &'static str {
    match stop {
        Stop::Length => "length",
        Stop::StopToken => "stop_token",
        Stop::Context => "context",
        Stop::Cancelled => "cancelled",
    }
}

#[cfg(test)]
mod tests {
    use edgeprof_boards::catalogue;
    use edgeprof_common::Digest;
    use edgeprof_link::Text;

    use super::*;
    use crate::board::fake;

    fn repetition() -> Repetition {
        Repetition {
            load: 1_000,
            prefill: vec![(1, 2_010), (1, 2_020)],
            decode: vec![3_010],
            tokens: vec![7, 8],
            logits_hash: 0xabc,
            arena_used: 640,
            kv_bytes: 64,
            stack_high_water: 99,
        }
    }

    fn measured(kind: &str, repetitions: &[Repetition], overhead: u32) -> v1::Measurement {
        let kind = catalogue().get(kind).unwrap();
        let hello = BoardHello { overhead_ticks: overhead, ..fake::hello(kind) };
        let repetitions: Vec<_> = repetitions.iter().map(|r| (r.clone(), Stop::Length)).collect();
        assemble(&Raw {
            kind,
            hello: &hello,
            firmware: &Firmware {
                loaded: Digest::of(b"fw"),
                compiler: Some("rustc version 1".into()),
                segments: Vec::new(),
            },
            counted: Counted::Emulated { version: Some("QEMU emulator version 7.2") },
            image_bytes: 12,
            repetitions: &repetitions,
            warmups: 2,
            uid: None,
        })
    }

    #[test]
    fn a_clean_run_has_whole_instructions_and_no_reasons() {
        let m = measured("riscv32", &[repetition(), repetition()], 10);
        assert_eq!(m.reasons, Vec::<String>::new());
        assert_eq!(m.samples.len(), 2);
        let sample = &m.samples[0];
        assert_eq!(sample.counter, "instructions");
        assert_eq!((sample.load, &sample.prefill, &sample.decode), (990, &vec![2_000, 2_010], &vec![3_000]));
        assert_eq!(sample.prefill_tokens, [1, 1]);
        assert_eq!((m.output_tokens.as_slice(), m.logits_hash.as_str()), (&[7, 8][..], "0000000000000abc"));
        assert_eq!(
            (m.provenance.as_str(), m.stop_reason.as_str(), m.discarded_warmups),
            ("emulated", "length", 2)
        );
        let environment = m.environment.unwrap();
        assert_eq!(environment.machine.as_deref(), Some("virt"));
        assert_eq!(environment.icount_shift, Some(0));
        let memory = m.memory.unwrap();
        assert_eq!((memory.arena, memory.kv_cache, memory.flash_weights), (640, 64, 12));
        assert_eq!(m.firmware.unwrap().digest, Digest::of(b"fw").to_string());
    }

    #[test]
    fn ticks_that_are_no_whole_instructions_give_a_reason_and_no_figure() {
        // On mps2-an386 an instruction is 1.6 ticks, so some tick counts are none.
        let kind = catalogue().get("mps2-an386").unwrap();
        let none = (1..).find(|ticks| kind.ticks_to_instructions(*ticks).is_none()).unwrap();
        let broken = Repetition { decode: vec![none], ..repetition() };
        let fine = Repetition { load: 16, prefill: vec![(1, 16), (1, 16)], decode: vec![16], ..repetition() };
        let m = measured("mps2-an386", &[fine, broken], 0);
        assert_eq!(m.samples.len(), 1);
        assert_eq!(m.samples[0].decode, [10]);
        assert!(
            m.reasons.iter().any(|r| r.contains("repetition 2") && r.contains("whole")),
            "{:?}",
            m.reasons
        );
    }

    #[test]
    fn repetitions_that_disagree_are_named() {
        let other = Repetition { tokens: vec![7, 9], logits_hash: 1, ..repetition() };
        let m = measured("riscv32", &[repetition(), repetition(), other], 0);
        assert_eq!(m.reasons.len(), 2, "{:?}", m.reasons);
        assert!(m.reasons.iter().all(|r| r.contains("repetition 3")));
    }

    #[test]
    fn a_counter_of_another_rate_is_named() {
        let kind = catalogue().get("riscv32").unwrap();
        let hello = BoardHello { tick_hz: 5, counter: Text::cut("cycles"), ..fake::hello(kind) };
        let m = assemble(&Raw {
            kind,
            hello: &hello,
            firmware: &Firmware { loaded: Digest::of(b"fw"), compiler: None, segments: Vec::new() },
            counted: Counted::Emulated { version: None },
            image_bytes: 1,
            repetitions: &[(repetition(), Stop::Length)],
            warmups: 0,
            uid: None,
        });
        assert!(m.reasons[0].contains("cycles at 5"), "{:?}", m.reasons);
    }
}
