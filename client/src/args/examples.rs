//! What stands below the help of a command.

pub(super) const EXAMPLES: &str = "\
Examples:
  edgeprof boards
  edgeprof run -m stories260K.bin --tokenizer tok512.bin -b all --prompt \"Once upon a time\"
  edgeprof run -m model.gguf -b mps2-an386 -b riscv32 -p 16,64 -n 32 --quant q8_0,q4_0 -o json
  edgeprof submit -f nightly.toml
  edgeprof results j01k2m3n4p5q6r -o csv
  edgeprof show j01k2m3n4p5q6r --events
  edgeprof drain host-2

Exit codes: 0 ok, 1 a cell failed, 2 the request is wrong or refused, 3 the cluster is out of reach.";

pub(super) const RUN_EXAMPLES: &str = "\
Every -m, -b, prompt and list entry multiplies the cells of the job; each cell is one result.
Without --prompt, -p and --suite the test is -p 16 -n 16.

Examples:
  edgeprof run -m model.gguf -b all
  edgeprof run -m stories260K.bin --tokenizer tok512.bin -b mps2-an386 --prompt \"Once upon a time\" -n 64
  edgeprof run -m model.gguf -b riscv32 -p 16,64,256 -n 16 --quant native,q4_0 --kv i8 -o csv
  edgeprof run -m model.gguf -b site=attic --each --suite quick
  edgeprof run --local -m model.gguf -b riscv32         # needs no lab";

pub(super) const SUBMIT_EXAMPLES: &str = "\
Examples:
  edgeprof submit -m model.gguf -b all --suite length-sweep --priority low
  JOB=$(edgeprof submit -f nightly.toml) && edgeprof watch \"$JOB\"

A job file:
  model = \"model.gguf\"            # paths are relative to the file
  board = [\"mps2-an386\", \"riscv32\"]
  prompt = \"Once upon a time\"
  n-gen = [16, 64]
  quant = [\"q8_0\", \"q4_0\"]
  wait-for-board = \"10m\"
  label = { branch = \"main\" }";

pub(super) const SHOW_EXAMPLES: &str = "\
Times that are marked with ~ are estimates from history.

Examples:
  edgeprof show j01k2m3n4p5q6r
  edgeprof show j01k2m3n4p5q6r --events             # every attempt: where, and why it was lost
  edgeprof show j01k2m3n4p5q6r --events -o csv";

pub(super) const DRAIN_EXAMPLES: &str = "\
Examples:
  edgeprof drain host-2 && ssh host-2 sudo reboot
  edgeprof drain host-2 --undo";

pub(super) const QUARANTINE_EXAMPLES: &str = "\
Example:
  edgeprof quarantine host-1/riscv32.0 --reason \"its line is loose\"";

pub(super) const RESERVE_EXAMPLES: &str = "\
Examples:
  edgeprof board reserve host-1/riscv32.0 --for 2h
  edgeprof board console host-1/riscv32.0
  edgeprof board reserve host-1/riscv32.0 --release";

pub(super) const CONSOLE_EXAMPLES: &str = "\
Examples:
  edgeprof board console host-1/riscv32.0
  edgeprof board console host-1/riscv32.0 < boot.txt > said.bin
  edgeprof board console host-1/riscv32.0 --linger 1h < /dev/null    # only listen";

pub(super) const TOKEN_EXAMPLES: &str = "\
Examples:
  edgeprof token issue nightly --role submitter --expires 90d --to nightly.token
  edgeprof submit -f nightly.toml --token-file nightly.token
  edgeprof token issue watcher --role viewer --only ListJobs,WatchJob";

pub(super) const AUDIT_EXAMPLES: &str = "\
Examples:
  edgeprof audit --since 2h
  edgeprof audit --who nightly --limit 1000 -o csv";

pub(super) const PKI_EXAMPLES: &str = "\
Examples:
  A lab of one coordinator, one worker and one person:
    edgeprof pki init --lab attic
    edgeprof pki issue coordinator
    edgeprof pki issue worker host-1
    edgeprof pki issue client ann --role operator
  Ann has left:
    edgeprof pki revoke client/ann --reason privilege-withdrawn";
