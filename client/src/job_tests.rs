use clap::Parser;
use edgeprof_common::{Kv, Quant};

use super::*;
use crate::{
    args::{Cli, Command},
    suites::Suite,
};

fn parse(line: &[&str]) -> JobArgs {
    let cli = Cli::try_parse_from(["edgeprof", "run"].iter().chain(line)).unwrap();
    match cli.command {
        Command::Run { job, .. } => job,
        other => panic!("{other:?}"),
    }
}

fn spec(line: &[&str]) -> JobSpec {
    settings(&parse(line)).unwrap()
}

fn refused(line: &[&str]) -> String {
    let failure = prepare(&parse(line), &Who::default()).unwrap_err();
    assert_eq!(failure.code, 2);
    failure.text()
}

#[test]
fn every_flag_reaches_the_job() {
    let prompt = tempfile::NamedTempFile::new().unwrap();
    fs::write(prompt.path(), "from a file\n").unwrap();
    let line = [
        "-b",
        "mps2-an386",
        "-b",
        "site=attic",
        "--each",
        "--prompt",
        "",
        "--prompt",
        "- hi",
        "--prompt-file",
        prompt.path().to_str().unwrap(),
        "-p",
        "8,16",
        "-n",
        "32,64",
        "-n",
        "1",
        "-d",
        "0,128",
        "-t",
        "1",
        "-r",
        "3",
        "--warmup",
        "2",
        "--quant",
        "native,q8_0,q4_0",
        "--kv",
        "f32,i8",
        "--ctx",
        "256",
        "--temperature",
        "0.8",
        "--seed",
        "18446744073709551615",
        "--priority",
        "high",
        "--label",
        "branch=main",
        "--label",
        "n=a=b",
        "--wait-for-board",
        "1m 30s",
    ];
    let spec = spec(&line);
    assert_eq!(spec.boards, ["mps2-an386", "site=attic"]);
    assert!(spec.each);
    assert_eq!(spec.prompts, ["", "- hi", "from a file"]);
    assert_eq!((spec.n_prompt, spec.n_gen, spec.n_depth), (vec![8, 16], vec![32, 64, 1], vec![0, 128]));
    assert_eq!((spec.repetitions, spec.warmup, spec.ctx), (Some(3), Some(2), Some(256)));
    assert_eq!(
        (spec.quants, spec.kvs),
        (vec![Quant::Native, Quant::Q8_0, Quant::Q4_0], vec![Kv::F32, Kv::I8])
    );
    assert_eq!((spec.temperature, spec.seed, spec.priority), (0.8, u64::MAX, Priority::High));
    assert_eq!(spec.labels, [("branch", "main"), ("n", "a=b")].map(|(k, v)| (k.into(), v.into())).into());
    assert_eq!(spec.wait_for_board_ms, Some(90_000));
    assert_eq!(spec.suite, None);
}

#[test]
fn without_a_test_there_is_a_default_one() {
    let plain = spec(&["-b", "all"]);
    assert_eq!((plain.n_prompt, plain.n_gen, plain.prompts.len()), (vec![16], vec![16], 0));
    assert_eq!((plain.temperature, plain.seed, plain.priority), (0.0, 0, Priority::Normal));
    assert_eq!((plain.repetitions, plain.warmup, plain.wait_for_board_ms), (None, None, None));
    let real = spec(&["--prompt", "In the"]);
    assert_eq!((real.n_prompt, real.n_gen), (vec![], vec![16]));
}

#[test]
fn lists_and_repeated_flags_multiply() {
    let mut spec = spec(&["-b", "all", "-p", "8,16", "-n", "1,2,3", "--quant", "q8_0,q4_0", "--prompt", "x"]);
    spec.models = vec![placeholder(), placeholder()];
    assert_eq!(spec.cells().len(), 2 * 2 * 3 * 3);
}

#[test]
fn a_suite_stands_for_its_tests() {
    let quick = spec(&["-b", "all", "--suite", "quick"]);
    assert_eq!(quick.suite.as_deref(), Some("quick"));
    assert_eq!((quick.prompts.len(), quick.n_prompt, quick.n_gen), (1, vec![16], vec![16]));
    let sweep = spec(&["--suite", "length-sweep"]);
    assert_eq!((sweep.n_prompt, sweep.n_gen), (vec![8, 32, 128], vec![16, 64]));
    assert_eq!(Suite::LengthSweep.name(), "length-sweep");
}

#[test]
fn what_cannot_be_is_refused_before_any_file_is_read() {
    let base = ["-m", "/nowhere/m.gguf", "-b", "all"];
    let with = |more: &[&str]| refused(&[&base, more].concat());
    assert!(refused(&["-b", "all"]).contains("hint: name one with -m"));
    assert!(refused(&["-m", "x"]).contains("hint: name one with -b"));
    assert!(
        with(&["-t", "2"]).starts_with("error: -t is for host boards, and there is no host board kind yet\n")
    );
    assert!(with(&["-n", "99999999"]).contains("n_gen is 99999999, allowed is 0 to 65536"));
    assert!(with(&["--temperature=-1"]).contains("temperature is -1"));
    assert!(refused(&["-m", "x", "-b", "a,b"]).contains("hint: give -b once for each board"));
    assert!(with(&[]).contains("/nowhere/m.gguf"));
    assert!(with(&["--prompt-file", "/nowhere/p.txt"]).contains("/nowhere/p.txt"));
}

fn job_file(text: &str) -> Result<JobArgs, Failure> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.toml");
    fs::write(&path, text).unwrap();
    read(&path).map(|mut args| {
        for path in args.model.iter_mut().chain(&mut args.tokenizer) {
            *path = path.strip_prefix(folder.path()).unwrap_or(path).to_owned();
        }
        args
    })
}

#[test]
fn a_job_file_says_the_same_as_flags() {
    let file = job_file(
        r#"
        model = ["a.gguf", "/abs/b.bin"]
        tokenizer = "tok.bin"
        board = "all"
        each = true
        prompt = ["", "x"]
        n-prompt = 8
        n-gen = [16, 32]
        n-depth = [64]
        temperature = 0.5
        seed = 7
        threads = 1
        repetitions = 2
        warmup = 1
        quant = "q8_0"
        kv = ["f16", "i8"]
        ctx = 128
        priority = "low"
        wait-for-board = "10m"
        label = { branch = "main" }
        "#,
    )
    .unwrap();
    let flags = parse(&[
        "-m",
        "a.gguf",
        "-m",
        "/abs/b.bin",
        "--tokenizer",
        "tok.bin",
        "-b",
        "all",
        "--each",
        "--prompt",
        "",
        "--prompt",
        "x",
        "-p",
        "8",
        "-n",
        "16,32",
        "-d",
        "64",
        "--temperature",
        "0.5",
        "--seed",
        "7",
        "-t",
        "1",
        "-r",
        "2",
        "--warmup",
        "1",
        "--quant",
        "q8_0",
        "--kv",
        "f16,i8",
        "--ctx",
        "128",
        "--priority",
        "low",
        "--wait-for-board",
        "10m",
        "--label",
        "branch=main",
    ]);
    assert_eq!(file, flags);
}

#[test]
fn a_wrong_key_or_value_is_named_with_its_line() {
    let text = job_file("model = \"m\"\nbaord = \"all\"\n").unwrap_err().text();
    assert!(text.contains("job.toml, line 2, key baord") && text.contains("did you mean board"), "{text}");
    let text = job_file("model = \"m\"\nquant = \"q5_0\"\n").unwrap_err().text();
    assert!(text.contains("line 2") && text.contains("q5_0"), "{text}");
    let text = job_file("n-gen = -1\n").unwrap_err().text();
    assert!(text.contains("line 1") && text.contains("-1"), "{text}");
    let text = job_file("suite = \"quick\"\nn-gen = 3\n").unwrap_err().text();
    assert!(text.contains("instead of"), "{text}");
}

/// Cut and changed in every place: an error with the file's name, or a job.
#[test]
fn no_job_file_panics() {
    let sound = "model = \"m.gguf\"\nboard = [\"all\", \"rack=1\"]\nprompt = \"once\"\nn-gen = [16, 64]\n\
                 quant = [\"q8_0\"]\nkv = \"i8\"\nwait-for-board = \"10m\"\nlabel = { branch = \"main\" }\n\
                 temperature = 0.5\npriority = \"low\"\n"
        .as_bytes();
    let path = Path::new("job.toml");
    assert!(understand(sound, path).is_ok());
    for at in 0..sound.len() {
        let mut variants = vec![sound[..at].to_vec(), [&sound[..at], &sound[at + 1..]].concat()];
        for byte in *b"\"[]{}=-.9x\n\0\xff" {
            let mut changed = sound.to_vec();
            changed[at] = byte;
            variants.push(changed);
        }
        for variant in variants {
            match understand(&variant, path) {
                Ok(args) => drop(settings(&args).map(|spec| spec.validate())),
                Err(failure) => assert!(failure.text().contains("job.toml"), "{}", failure.text()),
            }
        }
    }
}
