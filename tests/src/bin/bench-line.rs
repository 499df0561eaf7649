//! How long a model takes over a pseudo terminal, clean and with damaged frames: run by `cargo xtask bench line`.

use std::time::Instant;

use edgeprof_tests::{Emulator, Faults, Lab, Proxy, firmware, shipped_model};

/// Loads of each kind of line.
const ROUNDS: usize = 3;

fn main() {
    println!("the shipped model at q8_0 over a pseudo terminal, {ROUNDS} loads each, wall time\n");
    println!("{:<12} {:<24} {:>9} {:>9} {:>8}  verification", "board", "line", "bytes", "median s", "ratio");
    for kind in ["mps2-an386", "riscv32"] {
        let mut clean = None;
        for (name, faults) in [
            ("clean", Faults::default()),
            ("1 % of frames damaged", Faults { flip: 100, ..Faults::default() }),
        ] {
            let (mut times, mut bytes, mut verified) = (Vec::new(), 0, true);
            for _ in 0..ROUNDS {
                let (seconds, sent, hash) = load(kind, faults);
                times.push(seconds);
                bytes = sent;
                verified &= hash;
            }
            times.sort_by(f64::total_cmp);
            let median = times[ROUNDS / 2];
            let base = *clean.get_or_insert(median);
            let verdict = if verified { "hash, every time" } else { "FAILED" };
            println!("{kind:<12} {name:<24} {bytes:>9} {median:>9.2} {:>7.2}x  {verdict}", median / base);
        }
    }
}

/// Seconds from the board's answer to `Load` until all is there, bytes sent, and whether the run's hash was the
/// host's. The transcript has the times.
fn load(kind: &str, faults: Faults) -> (f64, u64, bool) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let board = Emulator::start(kind, &firmware().join(format!("{kind}.elf")));
    let line = Proxy::new(board.terminal(), folder.path().join("tty"));
    let port = line.path();
    let lab = Lab::with_config(&format!("[[board]]\nkind = \"{kind}\"\nport = {port:?}\nemulated = true\n"));
    lab.wait_for_boards(1);
    line.set(faults);
    let start = Instant::now();
    let model = shipped_model().display().to_string();
    let runs = lab.json(&["run", "-m", &model, "-b", kind, "--prompt", "", "-n", "4", "--quant", "q8_0"]);
    let whole = start.elapsed();
    let job = runs[0]["job_id"].as_str().expect("a run has a job");
    let logs = lab.json(&["logs", job]);
    let text = logs[0]["text"].as_str().expect("an attempt has a transcript");
    let second = |line: Option<&str>| -> f64 {
        let stamp = line.and_then(|line| line.strip_prefix('+')?.split(' ').next());
        stamp.and_then(|stamp| stamp.parse().ok()).unwrap_or(whole.as_secs_f64())
    };
    let begun = second(text.lines().find(|line| line.contains("← Loading")));
    let done = text.lines().find(|line| line.contains("· image of"));
    let sent = done.and_then(|line| line.split(", ").nth(1)?.split(' ').next()?.parse().ok());
    (second(done) - begun, sent.unwrap_or(0), runs[0]["workload"]["verification"] == "hash")
}
