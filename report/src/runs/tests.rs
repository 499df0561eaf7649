//! What people and programs get to see.

use edgeprof_common::run::{Counter, Provenance, RunRecord, Timing, Verification};
use expect_test::expect;

use super::*;
use crate::fixtures::{emulated, failed, refused};

fn m4() -> RunRecord {
    emulated(1, "mps2-an386", "cortex-m4f", 2_384_916)
}

fn m3() -> RunRecord {
    emulated(2, "mps2-an385", "cortex-m3", 7_063_361)
}

fn context(run: &RunRecord, selector: &str) -> Context {
    Context { selectors: [(run.task_id, selector.to_owned())].into(), ..Context::default() }
}

#[test]
fn a_matrix_over_boards_has_one_row_a_cell_and_one_text() {
    expect![[r#"
        model stories260K.bin (260 K parameters) · weights q8_0 · kv i8 · context 9 · prompt 5 tokens ·
        generate up to 4 · greedy · firmware 0.1.0

        board               cpu             prefill       decode  estimated    arena  weights  check   state
                                        instr/token  instr/token      tok/s
        ────────────────────────────────────────────────────────────────────────────────────────────────────
        lab-1/mps2-an386-0  cortex-m4f    2,384,908    2,384,917    ~4.8–10  212 KiB  275 KiB  hash ✓  ok
        lab-1/mps2-an385-0  cortex-m3     7,063,353    7,063,362   ~1.6–3.5  212 KiB  275 KiB  hash ✓  ok

        counts: emulated instructions (qemu 7.2.0), the same on every run
        ~ tok/s: estimated from cpi-bounds-cortex-m3-v1, cpi-bounds-cortex-m4f-v1, uncalibrated

        both boards generated the same text:
          , there was a little girl
    "#]]
    .assert_eq(&table(&[m4(), m3()], &Context::default()));
}

#[test]
fn failed_and_refused_cells_say_why_below() {
    let runs = [m4(), failed(3), refused(4)];
    expect![[r#"
        model stories260K.bin (260 K parameters) · weights q8_0 · kv i8 · context 9 · prompt 5 tokens ·
        generate up to 4 · greedy · firmware 0.1.0

        board               cpu             prefill       decode  estimated    arena  weights  check   state
                                        instr/token  instr/token      tok/s
        ──────────────────────────────────────────────────────────────────────────────────────────────────────────
        lab-1/mps2-an386-0  cortex-m4f    2,384,908    2,384,917    ~4.8–10  212 KiB  275 KiB  hash ✓  ok
        lab-1/riscv32-0     rv32imafc             –            –          –        –  275 KiB  –       failed [1]
        microbit            –                     –            –          –        –  275 KiB  –       refused [2]

        [1] failed: the board sent nothing for 30 s\u{1b}[2J (board_hung)
            hint: edgeprof boards shows whether it came back
        [2] refused: needs 281,600 bytes of flash, microbit has 196,608 (does_not_fit)
            hint: try --quant q4_0
        counts: emulated instructions (qemu 7.2.0), the same on every run
        ~ tok/s: estimated from cpi-bounds-cortex-m4f-v1, uncalibrated

        generated text:
          , there was a little girl
    "#]].assert_eq(&table(&runs, &context(&runs[2], "microbit")));
}

#[test]
fn settings_that_differ_are_columns() {
    let mut q4 = emulated(5, "mps2-an386", "cortex-m4f", 2_101_333);
    q4.model.quant = edgeprof_common::Quant::Q4_0;
    q4.model.weight_bytes = Some(150_100);
    q4.workload.n_gen_max = 32;
    q4.workload.output_text = Some("\nOnce\u{7} there was\n".into());
    q4.scenario = "q4_0 kv i8 p5 n32".into();
    q4.workload.verification = Some(Verification::None);
    expect![[r#"
        model stories260K.bin (260 K parameters) · kv i8 · context 9 · prompt 5 tokens · greedy ·
        firmware 0.1.0

        board               cpu         quant  gen      prefill       decode  estimated    arena  weights  check      state
                                                    instr/token  instr/token      tok/s
        ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────
        lab-1/mps2-an386-0  cortex-m4f  q8_0     4    2,384,908    2,384,917    ~4.8–10  212 KiB  275 KiB  hash ✓     ok
        lab-1/mps2-an386-0  cortex-m4f  q4_0    32    2,101,325    2,101,334    ~5.4–12  212 KiB  147 KiB  unchecked  ok

        counts: emulated instructions (qemu 7.2.0), the same on every run
        ~ tok/s: estimated from cpi-bounds-cortex-m4f-v1, uncalibrated

        lab-1/mps2-an386-0 q8_0 kv i8 p5 n4 generated:
          , there was a little girl

        lab-1/mps2-an386-0 q4_0 kv i8 p5 n32 generated:
          Once\u{7} there was
    "#]].assert_eq(&table(&[m4(), q4], &Context::default()));
}

#[test]
fn an_invalid_run_has_no_tick() {
    let mut run = m4();
    run.state = edgeprof_common::run::RunState::Invalid;
    run.reasons = vec!["logits hash 1, on the host 2".into()];
    let shown = table(&[run], &Context::default());
    assert!(shown.contains("hash") && !shown.contains('✓'), "{shown}");
}

#[test]
fn measured_figures_stand_apart_from_estimated_ones() {
    let mut real = m3();
    real.provenance = Some(Provenance::Measured);
    real.environment = None;
    real.estimate = None;
    for sample in real.samples.iter_mut().chain(&mut real.counts) {
        sample.counter = Counter::Cycles;
    }
    real.timing = Some(Timing {
        ttft_ns: 1,
        tpot_ns: None,
        prefill_tokens_per_second: 3.0,
        decode_tokens_per_second: Some(3.54),
    });
    expect![[r#"
        model stories260K.bin (260 K parameters) · weights q8_0 · kv i8 · context 9 · prompt 5 tokens ·
        generate up to 4 · greedy · firmware 0.1.0

        board               cpu                  prefill            decode  decode  estimated    arena  weights  check   state
                                               per token         per token   tok/s      tok/s
        ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
        lab-1/mps2-an386-0  cortex-m4f   2,384,908 instr   2,384,917 instr       –    ~4.8–10  212 KiB  275 KiB  hash ✓  ok
        lab-1/mps2-an385-0  cortex-m3   7,063,353 cycles  7,063,362 cycles     3.5          –  212 KiB  275 KiB  hash ✓  ok

        counts: emulated instructions (qemu 7.2.0), the same on every run
        counts: measured cycles
        ~ tok/s: estimated from cpi-bounds-cortex-m4f-v1, uncalibrated

        both boards generated the same text:
          , there was a little girl
    "#]].assert_eq(&table(&[m4(), real], &Context::default()));
}

#[test]
fn markdown_is_a_github_table() {
    let runs = [m4(), m3(), refused(4)];
    expect![[r#"
        model stories260K.bin (260 K parameters) · weights q8_0 · kv i8 · context 9 · prompt 5 tokens · generate up to 4 · greedy · firmware 0.1.0

        | board | cpu | prefill (instr/token) | decode (instr/token) | estimated (tok/s) | arena | weights | check | state |
        | --- | --- | ---: | ---: | ---: | ---: | ---: | --- | --- |
        | lab-1/mps2-an386-0 | cortex-m4f | 2,384,908 | 2,384,917 | ~4.8–10 | 212 KiB | 275 KiB | hash ✓ | ok |
        | lab-1/mps2-an385-0 | cortex-m3 | 7,063,353 | 7,063,362 | ~1.6–3.5 | 212 KiB | 275 KiB | hash ✓ | ok |
        | label=a\|b | – | – | – | – | – | 275 KiB | – | refused [1] |

        [1] refused: needs 281,600 bytes of flash, microbit has 196,608 (does_not_fit)

        hint: try --quant q4_0

        counts: emulated instructions (qemu 7.2.0), the same on every run

        ~ tok/s: estimated from cpi-bounds-cortex-m3-v1, cpi-bounds-cortex-m4f-v1, uncalibrated

        both boards generated the same text:

        > , there was a little girl
    "#]].assert_eq(&markdown(&runs, &context(&runs[2], "label=a|b")));
}

#[test]
fn csv_has_every_column_for_every_cell() {
    let text = csv(&[m4(), failed(3), refused(4)]);
    expect![[r#"
        run_id,job_id,task_id,attempt,state,error_code,error_message,suite,scenario,labels,started_at,board_id,board_kind,board_cpu,board_isa,board_clock_hz,worker,emulator,emulator_version,runtime_version,firmware_digest,firmware_version,model,model_digest,model_params,quant,weight_bytes,image_digest,kv,ctx_tokens,n_prompt_tokens,n_gen_tokens,n_gen_max_tokens,n_depth_tokens,temperature,seed,stop_reason,logits_hash,verification,provenance,counter,repetitions,load_counts,prefill_counts_per_token,decode_counts_per_token,ttft_ns,tpot_ns,prefill_tokens_per_second,decode_tokens_per_second,estimated_decode_tokens_per_second_low,estimated_decode_tokens_per_second_high,estimated_cycles_per_token_low,estimated_cycles_per_token_high,estimate_model,estimate_calibration,arena_bytes,kv_cache_bytes,stack_high_water_bytes,static_ram_bytes,flash_code_bytes,flash_weights_bytes,output_text
        r00000000000000000000000001,j0000000000001,t00000000000000000000000001,1,ok,,,,q8_0 kv i8 p5 n4,,2026-01-01T00:00:00Z,lab-1/mps2-an386-0,mps2-an386,cortex-m4f,armv7e-m+fp,25000000,lab-1,qemu,7.2.0,0.1.0,sha256:0000000000000000000000000000000000000000000000000000000000000000,0.1.0,stories260K.bin,sha256:1111111111111111111111111111111111111111111111111111111111111111,260032,q8_0,281600,,i8,9,5,4,4,0,0,0,length,0123456789abcdef,hash,emulated,instructions,1,1000,2384908,2384916.6666666665,,,,,4.764795222823933,10.482549490212653,2384916,5246815.2,cpi-bounds-cortex-m4f-v1,uncalibrated,217088,4096,,,,282000,", there was a little girl"
        r00000000000000000000000003,j0000000000001,t00000000000000000000000003,1,failed,board_hung,the board sent nothing for 30 s\u{1b}[2J,,q8_0 kv i8 p5 n4,,2026-01-01T00:00:00Z,lab-1/riscv32-0,riscv32,rv32imafc,armv7e-m+fp,25000000,lab-1,qemu,7.2.0,0.1.0,sha256:0000000000000000000000000000000000000000000000000000000000000000,0.1.0,stories260K.bin,sha256:1111111111111111111111111111111111111111111111111111111111111111,260032,q8_0,281600,,i8,9,5,,4,0,0,0,,,,emulated,,,,,,,,,,,,,,,,,,,,,,
        r00000000000000000000000004,j0000000000001,t00000000000000000000000004,0,refused,does_not_fit,"needs 281,600 bytes of flash, microbit has 196,608",,q8_0 kv i8 p5 n4,,,,,,,,,,,,,,stories260K.bin,sha256:1111111111111111111111111111111111111111111111111111111111111111,260032,q8_0,281600,,i8,9,,,4,0,0,0,,,,,,,,,,,,,,,,,,,,,,,,,,
    "#]].assert_eq(&text);
    assert!(text.starts_with(&csv_header()));
}

#[test]
fn json_is_whole_records_with_absent_fields_absent() {
    let text = json(&[refused(4)]);
    assert!(!text.contains("null"), "{text}");
    assert_eq!(serde_json::from_str::<Vec<RunRecord>>(&text).unwrap(), [refused(4)]);
    let lines = json_lines(&[m4(), m3()]);
    let back: Vec<RunRecord> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(back, [m4(), m3()]);
}

#[test]
fn no_runs_are_said() {
    assert_eq!(table(&[], &Context::default()), "no runs\n");
    assert_eq!(json(&[]), "[]\n");
}

#[test]
fn figures_are_those_of_the_records_summary() {
    let mut run = m4();
    run.summary.get_mut("decode").unwrap().median = 7.0;
    assert_eq!((decode_per_token(&run), prefill_per_token(&run)), (Some(7.0), Some(2_384_908.0)));
    run.summary.clear();
    assert_eq!((decode_per_token(&run), prefill_per_token(&run)), (None, None));
}

#[test]
fn many_texts_are_cut_short() {
    let runs: Vec<_> = (0..9)
        .map(|i| {
            let mut run = emulated(i, "mps2-an386", "cortex-m4f", 2_384_916);
            run.workload.output_text = Some(format!("text {i}"));
            run
        })
        .collect();
    let text = table(&runs, &Context::default());
    assert!(text.contains("text 5") && !text.contains("text 6"), "{text}");
    assert!(text.contains("… and 3 more texts: see -o json"), "{text}");
}
