#!/usr/bin/env python3
"""Step 1: text and tokenizer.

Reads the King James text through the `bible` command (Debian packages
bible-kjv and bible-kjv-text), drops the verse numbers, holds out every 20th
chapter, and trains a 512-piece sentencepiece BPE model on the rest.

    python prepare.py OUTDIR

Writes OUTDIR/{train,heldout}.json (lists of chapters, each a list of verses)
and OUTDIR/tok.model.
"""
import json, pathlib, re, subprocess, sys

import sentencepiece as spm

out = pathlib.Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)

raw = subprocess.run(["bible", "-f", "ge1:1-re22:21"], stdin=subprocess.DEVNULL,
                     capture_output=True, text=True, check=True).stdout
chapters, last = [], None
for line in raw.splitlines():
    m = re.match(r"^(\w+?)(\d+):(\d+) (.*)$", line)
    if not m:
        raise SystemExit(f"unexpected line: {line!r}")
    key = (m[1], int(m[2]))
    if key != last:
        chapters.append([])
        last = key
    chapters[-1].append(re.sub(r"\s+", " ", m[4]).strip())

held = [c for i, c in enumerate(chapters) if i % 20 == 10]
train = [c for i, c in enumerate(chapters) if i % 20 != 10]
print(f"{len(chapters)} chapters, {sum(map(len, chapters))} verses; "
      f"{len(held)} chapters ({sum(map(len, held))} verses) held out")
(out / "train.json").write_text(json.dumps(train))
(out / "heldout.json").write_text(json.dumps(held))

# Characters rarer than 1 - character_coverage get no piece of their own and
# are spelled with byte pieces, which leaves more of the 253 ordinary pieces
# to merges.  The line feed between verses is always the byte piece <0x0A>.
spm.SentencePieceTrainer.train(
    sentence_iterator=iter([v for c in train for v in c]),
    model_prefix=str(out / "tok"), model_type="bpe", vocab_size=512,
    byte_fallback=True, character_coverage=0.9995, add_dummy_prefix=True,
    normalization_rule_name="identity", remove_extra_whitespaces=False,
    max_sentence_length=100000, num_threads=2, minloglevel=2,
    unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
sp = spm.SentencePieceProcessor(model_file=str(out / "tok.model"))
text = ["\n".join(c) for c in train]
nt, nc = sum(len(sp.encode(t)) for t in text), sum(map(len, text))
print(f"{nc} characters, {nt} tokens, {nc / nt:.3f} characters per token")
