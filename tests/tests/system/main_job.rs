//! A model file in, numbers from four boards out.

use edgeprof_tests::{Lab, root};
use serde_json::Value;

use crate::{job, model};

const BOARDS: [&str; 4] = ["mps2-an386", "mps2-an500", "netduinoplus2", "riscv32"];

/// Workers are found over mDNS, dialled, and run the same job twice with the same figures; every board
/// and the host's engine agree on every logit.
#[test]
fn four_boards_agree_with_each_other_with_the_host_and_with_themselves() {
    let lab = Lab::with_discovery(&[&BOARDS[..2], &BOARDS[2..]]);
    for worker in lab.json(&["workers"]).as_array().unwrap() {
        assert_eq!((&worker["found_by"], &worker["health"]), (&"mdns".into(), &"alive".into()), "{worker}");
    }
    let model = model();
    let arguments = [vec!["run"], job(&model, &BOARDS, "24")].concat();
    let (first, second) = (lab.json(&arguments), lab.json(&arguments));
    let (first, second) = (first.as_array().unwrap(), second.as_array().unwrap());
    let schema: Value =
        serde_json::from_slice(&std::fs::read(root().join("common/schema/edgeprof.run.v1.json")).unwrap())
            .unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();

    let kinds: Vec<_> = first.iter().map(|run| run["board"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, BOARDS, "one element a cell, in the order of the flags");
    for (run, again) in first.iter().zip(second) {
        assert!(schema.validate(run).is_ok(), "{:?} in {run}", schema.validate(run));
        assert_eq!(run["state"], "ok", "{run}");
        assert_eq!(run["provenance"], "emulated");
        assert_eq!(run["workload"]["verification"], "hash", "{run}");
        assert_eq!(run["counts"], again["counts"], "counts are exact on {}", run["board"]["kind"]);
        assert_eq!(run["workload"]["logits_hash"], again["workload"]["logits_hash"]);
        assert_eq!(run["workload"]["logits_hash"], first[0]["workload"]["logits_hash"]);
        assert_eq!(run["workload"]["output_text"], first[0]["workload"]["output_text"]);
        let (prompt, generated) = (&run["workload"]["n_prompt"], run["workload"]["n_gen"].as_u64().unwrap());
        let passes: u64 =
            run["counts"]["prefill_tokens"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(Some(passes), prompt.as_u64(), "BOS counts as a token");
        assert_eq!(run["counts"]["decode"].as_array().unwrap().len() as u64, generated - 1);
        assert!(run["memory"]["arena"].as_u64().unwrap() > run["memory"]["kv_cache"].as_u64().unwrap());
        let speed = &run["estimate"]["decode_tokens_per_second"];
        assert!(speed["low"].as_f64().unwrap() < speed["high"].as_f64().unwrap(), "an estimate is a range");
        assert!(run["timing"].is_null(), "an emulator has no clock of its own");
        assert!(run["estimate"]["provenance"] == "estimated");
    }
}
