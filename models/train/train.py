#!/usr/bin/env python3
"""Step 2: training.  Muon for the matrices, Adam for embeddings and norms.

    python train.py OUTDIR [MINUTES]

The learning rate, the sequence length (256, then 512) and the switch to
quantization-aware training depend on the share of the time budget used, so a
slower machine makes fewer steps but always completes the schedule (and so
only the data order and the initial weights are reproducible, not the step
count).  Writes OUTDIR/ckpt.npz (averaged weights) about once a minute and at
the end; OUTDIR/final.npz when done.

On some systems the allocator's page faults cost half the time; these settings
keep freed memory in the process, and fast math helps a little more:

    MALLOC_MMAP_THRESHOLD_=17179869184 MALLOC_TRIM_THRESHOLD_=17179869184 \\
    MALLOC_TOP_PAD_=268435456 MALLOC_ARENA_MAX=1 \\
    XLA_FLAGS=--xla_cpu_enable_fast_math=true python train.py OUTDIR 40
"""
import functools, json, pathlib, sys, time

import jax, jax.numpy as jnp, numpy as np
import sentencepiece as spm

import model as M

out = pathlib.Path(sys.argv[1])
budget = float(sys.argv[2] if len(sys.argv) > 2 else 40) * 60
SEED, BATCH_TOKENS, LONG_AT, QAT_AT = 1611, 4096, 0.6, 0.85
LR_MUON, LR_ADAM, WD_MUON, WD_ADAM, EMA = 0.02, 0.008, 0.05, 0.02, 0.99
MATS = ("wq", "wk", "wv", "wo", "w1", "w2", "w3")
BOS, EOS = 1, 2

sp = spm.SentencePieceProcessor(model_file=str(out / "tok.model"))


def encode_chapter(verses):
    """Per verse: (tokens at the start of a passage, tokens after a verse)."""
    return [(sp.encode(v), sp.encode("\n" + v)[1:]) for v in verses]


train = [encode_chapter(c) for c in json.loads((out / "train.json").read_text())]
held = json.loads((out / "heldout.json").read_text())


def passages(verses, limit=M.CTX):
    """Greedy runs of whole verses of at most `limit` tokens with BOS."""
    cur = []
    for v in verses:
        if cur and len(sp.encode("\n".join(cur + [v]))) + 1 > limit:
            yield "\n".join(cur)
            cur = []
        cur.append(v)
    yield "\n".join(cur)


held_text = [t for c in held for t in passages(c)]
held_tok = [[BOS] + sp.encode(t) for t in held_text]


def rows(rng, T):
    """Endless rows of T+1 tokens: a passage from a verse's start on, cut at
    T+1; short ones are followed by another passage."""
    while True:
        segs = []
        for ch in train:
            i, first = 0, True
            while i < len(ch):
                limit = int(rng.integers(T // 4, T + 2)) if first else T + 1
                s, j = [BOS] + ch[i][0], i + 1
                while j < len(ch) and len(s) < limit:
                    s = s + ch[j][1]
                    j += 1
                if j == len(ch) and len(s) < limit:
                    s.append(EOS)
                elif len(s) > limit and j > i + 1:
                    j -= 1  # the cut verse opens the next passage
                segs.append(s[:limit])
                i, first = j, False
        row = []
        for k in rng.permutation(len(segs)):
            row += segs[k]
            if len(row) >= T + 1:
                yield row[:T + 1]
                row = []


def loss_fn(p, b, quant):
    x, y = b[:, :-1], b[:, 1:]
    seg = jnp.cumsum(x == BOS, 1)
    lg = M.forward(p, x, seg, quant)
    nll = jax.nn.logsumexp(lg, -1) - jnp.take_along_axis(lg, y[..., None], -1)[..., 0]
    w = y != BOS
    return jnp.sum(nll * w) / jnp.sum(w)


def orthogonalize(g):  # quintic Newton-Schulz, batched over layers
    t = g.shape[-2] > g.shape[-1]
    x = jnp.swapaxes(g, -1, -2) if t else g
    x = x / (jnp.linalg.norm(x, axis=(-2, -1), keepdims=True) + 1e-7)
    for _ in range(5):
        a = x @ jnp.swapaxes(x, -1, -2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return jnp.swapaxes(x, -1, -2) if t else x


@functools.partial(jax.jit, static_argnums=(5,), donate_argnums=(0, 1, 2))
def step(p, st, ema, b, lr, quant, n):
    loss, g = jax.value_and_grad(loss_fn)(p, b, quant)
    p, st = dict(p), {k: dict(v) for k, v in st.items()}
    for k in p:
        s = st[k]
        if k in MATS:
            s["m"] = 0.95 * s["m"] + g[k]
            u = orthogonalize(g[k] + 0.95 * s["m"])
            u = u * max(1, p[k].shape[-2] / p[k].shape[-1]) ** 0.5
            p[k] = p[k] * (1 - lr * LR_MUON * WD_MUON) - lr * LR_MUON * u
        else:
            s["m"] = 0.9 * s["m"] + 0.1 * g[k]
            s["v"] = 0.98 * s["v"] + 0.02 * g[k] ** 2
            u = s["m"] / (1 - 0.9 ** n) / (jnp.sqrt(s["v"] / (1 - 0.98 ** n)) + 1e-9)
            wd = WD_ADAM if k == "embd" else 0.0
            p[k] = p[k] * (1 - lr * LR_ADAM * wd) - lr * LR_ADAM * u
    ema = {k: EMA * ema[k] + (1 - EMA) * p[k] for k in p}
    return p, st, ema, loss


@functools.partial(jax.jit, static_argnums=(3,))
def eval_rows(p, x, w, quant):
    lg = M.forward(p, x[:, :-1], None, quant)
    nll = jax.nn.logsumexp(lg, -1) - jnp.take_along_axis(lg, x[:, 1:, None], -1)[..., 0]
    return jnp.sum(nll * w)


def evaluate(p, quant=False, every=1):
    """Held-out (nats per token, bits per character)."""
    nll = nt = nc = 0
    idx = range(0, len(held_tok), every)
    for a in range(0, len(idx), 8):
        x, w = np.zeros((8, M.CTX + 1), np.int32), np.zeros((8, M.CTX), np.float32)
        for r, i in enumerate(idx[a:a + 8]):
            t = held_tok[i]
            x[r, :len(t)], w[r, :len(t) - 1] = t, 1
            nt, nc = nt + len(t) - 1, nc + len(held_text[i])
        nll += float(eval_rows(p, x, w, quant))
    return nll / nt, nll / nc / np.log(2)


def main():
    p = {k: jnp.array(v) for k, v in M.init(SEED).items()}
    st = {k: {s: jnp.zeros_like(v) for s in ("m", "v")} for k, v in p.items()}
    ema = {k: v + 0 for k, v in p.items()}
    print("parameters", sum(v.size for v in p.values()), flush=True)
    rng = np.random.default_rng(SEED)
    T, it = 256, rows(rng, 256)
    n, tok, t0, told, acc = 0, 0, time.time(), 0.0, []
    while (f := (time.time() - t0) / budget) < 1:
        if f >= LONG_AT and T == 256:
            T, it = 512, rows(rng, 512)
        lr = min(1.0, (n + 1) / 100) * (1 - f)
        b = np.array([next(it) for _ in range(BATCH_TOKENS // T)], np.int32)
        n += 1
        p, st, ema, loss = step(p, st, ema, b, lr, f >= QAT_AT, float(n))
        acc.append(loss)
        tok += BATCH_TOKENS
        if n % 100 == 0 or n == 10:
            print(f"step {n} f {f:.3f} T {T} loss {np.mean(acc):.4f} "
                  f"tok/s {tok / (time.time() - t0):.0f}", flush=True)
            acc = []
        if time.time() - told > 60:
            told = time.time()
            np.savez(out / "ckpt.npz", **{k: np.asarray(v) for k, v in ema.items()})
            print("  held-out (1/8 of it) nats/token %.4f bits/char %.4f"
                  % evaluate(ema, every=8), flush=True)
    for name in ("ckpt", "final"):
        np.savez(out / f"{name}.npz", **{k: np.asarray(v) for k, v in ema.items()})
    np.savez(out / "raw.npz", **{k: np.asarray(v) for k, v in p.items()})
    print(f"done: {n} steps, {tok} tokens")
    for q in (False, True):
        print("averaged", "W8A8" if q else "f32", evaluate(ema, q),
              "last", evaluate(p, q), flush=True)


if __name__ == "__main__":
    main()
