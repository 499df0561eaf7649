#!/usr/bin/env python3
"""Step 3: export and reference facts.

    python export.py OUTDIR --gguf FILE [--ckpt NAME] [--heldout FILE]
                     [--reference FILE] [--llama2c DIR] [--report] [--sample N]

--gguf       F16 GGUF (norms F32) with the tokenizer inside
--heldout    held-out excerpt, passages separated by blank lines
--reference  JSON of f32 results computed from the F16-rounded weights
             (plain numpy, independent of the JAX code used for training)
--llama2c    DIR/model.bin (llama2.c legacy v0) and DIR/tokenizer.bin
--report     held-out loss over all held-out chapters, f32 and W8A8
--sample     N passages sampled from BOS at temperature 0.8
"""
import argparse, json, pathlib, struct

import numpy as np
import sentencepiece as spm

DIM, LAYERS, HEADS, KV, HD, FF, VOCAB, CTX = 64, 5, 8, 4, 8, 192, 512, 512
EPS, THETA, GROUP = 1e-5, 10000.0, 32
BOS, EOS = 1, 2
NORMS = ("norm", "n1", "n2")


def f16(w):
    """Weights as stored in the GGUF: matrices rounded to F16, norms F32."""
    return {k: v if k in NORMS else v.astype(np.float16).astype(np.float32)
            for k, v in w.items()}


# ---------------------------------------------------------------- numpy model
def q8(x, scale_f16=False):
    """int8 in groups of 32 along the last axis, then back to float."""
    g = x.reshape(*x.shape[:-1], -1, GROUP)
    s = np.abs(g).max(-1, keepdims=True) / np.float32(127)
    inv = np.where(s > 0, 1 / np.maximum(s, 1e-30), 0).astype(np.float32)
    q = np.round(g * inv)
    if scale_f16:
        s = s.astype(np.float16).astype(np.float32)
    return (q * s).reshape(x.shape).astype(np.float32)


def rms(x, g):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(EPS)) * g


def quantize_weights(w):
    return {k: v if k in NORMS else q8(v, scale_f16=True) for k, v in w.items()}


class Numpy:
    """Reference forward pass, one sequence; act8 rounds every matrix
    multiplication's input to int8 in groups of 32."""

    def __init__(self, w, act8=False):
        self.w, self.a = w, q8 if act8 else (lambda x: x)
        f = THETA ** (-np.arange(0, HD, 2) / HD)
        ang = np.arange(CTX)[:, None] * f[None]
        self.cos, self.sin = np.cos(ang).astype(np.float32), np.sin(ang).astype(np.float32)

    def rope(self, x, p0):  # [T,H,HD], pairs (2i, 2i+1)
        T = len(x)
        a, b = x[..., 0::2], x[..., 1::2]
        c, s = self.cos[p0:p0 + T, None], self.sin[p0:p0 + T, None]
        y = np.empty_like(x)
        y[..., 0::2], y[..., 1::2] = a * c - b * s, a * s + b * c
        return y

    def __call__(self, tok, cache=None):
        """Logits [T,VOCAB]; `cache` (a dict) keeps keys and values."""
        w, A = self.w, self.a
        x = w["embd"][np.asarray(tok)]
        T = len(x)
        p0 = cache.get("n", 0) if cache is not None else 0
        for l in range(LAYERS):
            h = A(rms(x, w["n1"][l]))
            q = self.rope((h @ w["wq"][l].T).reshape(T, HEADS, HD), p0)
            k = self.rope((h @ w["wk"][l].T).reshape(T, KV, HD), p0)
            v = (h @ w["wv"][l].T).reshape(T, KV, HD)
            if cache is not None:
                if p0:
                    k = np.concatenate([cache[l][0], k])
                    v = np.concatenate([cache[l][1], v])
                cache[l] = (k, v)
            o = np.empty((T, HEADS, HD), np.float32)
            masked = np.arange(len(k))[None] > np.arange(p0, p0 + T)[:, None]
            for i in range(HEADS):
                j = i // (HEADS // KV)
                s = q[:, i] @ k[:, j].T / np.float32(HD ** 0.5)
                s[masked] = -np.inf
                s = np.exp(s - s.max(-1, keepdims=True))
                o[:, i] = s / s.sum(-1, keepdims=True) @ v[:, j]
            x = x + A(o.reshape(T, -1)) @ w["wo"][l].T
            h = A(rms(x, w["n2"][l]))
            g, u = h @ w["w1"][l].T, h @ w["w3"][l].T
            x = x + A(g / (1 + np.exp(-g)) * u) @ w["w2"][l].T
        if cache is not None:
            cache["n"] = p0 + T
        return A(rms(x, w["norm"])) @ w["embd"].T


def nlls(lg, y):
    lg = lg.astype(np.float64)
    m = lg.max(-1, keepdims=True)
    return (m[:, 0] + np.log(np.exp(lg - m).sum(-1))) - lg[np.arange(len(y)), y]


# -------------------------------------------------------------------- writers
def write_gguf(path, w, sp):
    import gguf
    g = gguf.GGUFWriter(str(path), "llama")
    g.add_name("edgeprof-kjv-280k")
    g.add_description("279K-parameter llama-architecture language model trained on the "
                      "King James Bible; test and demonstration model of edgeprof")
    g.add_license("CC0-1.0")
    g.add_file_type(1)
    g.add_context_length(CTX)
    g.add_embedding_length(DIM)
    g.add_block_count(LAYERS)
    g.add_feed_forward_length(FF)
    g.add_head_count(HEADS)
    g.add_head_count_kv(KV)
    g.add_layer_norm_rms_eps(EPS)
    g.add_rope_dimension_count(HD)
    g.add_rope_freq_base(THETA)
    g.add_vocab_size(VOCAB)
    g.add_tokenizer_model("llama")
    kinds = [6 if sp.is_byte(i) else 2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 1
             for i in range(VOCAB)]
    g.add_token_list([sp.id_to_piece(i).encode() for i in range(VOCAB)])
    g.add_token_scores([sp.get_score(i) for i in range(VOCAB)])
    g.add_token_types(kinds)
    g.add_bos_token_id(sp.bos_id())
    g.add_eos_token_id(sp.eos_id())
    g.add_unk_token_id(sp.unk_id())
    g.add_add_bos_token(True)
    g.add_add_eos_token(False)
    g.add_add_space_prefix(True)
    h = lambda a: np.ascontiguousarray(a.astype(np.float16))
    s = lambda a: np.ascontiguousarray(a.astype(np.float32))
    g.add_tensor("token_embd.weight", h(w["embd"]))
    for l in range(LAYERS):
        for name, k in (("attn_norm", "n1"), ("attn_q", "wq"), ("attn_k", "wk"),
                        ("attn_v", "wv"), ("attn_output", "wo"), ("ffn_norm", "n2"),
                        ("ffn_gate", "w1"), ("ffn_up", "w3"), ("ffn_down", "w2")):
            g.add_tensor(f"blk.{l}.{name}.weight", (s if k in NORMS else h)(w[k][l]))
    g.add_tensor("output_norm.weight", s(w["norm"]))
    g.write_header_to_file()
    g.write_kv_data_to_file()
    g.write_tensors_to_file()
    g.close()


def write_llama2c(folder, w, sp):
    """llama2.c legacy v0 (f32).  A positive vocabulary size marks the shared
    classifier; the layout is that of llama2.c's legacy_export()."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "model.bin", "wb") as f:
        f.write(struct.pack("<7i", DIM, FF, LAYERS, HEADS, KV, VOCAB, CTX))
        for k in ("embd", "n1", "wq", "wk", "wv", "wo", "n2", "w1", "w2", "w3", "norm"):
            f.write(np.ascontiguousarray(w[k], "<f4").tobytes())
        # rotary tables, kept in the format for history's sake
        ang = np.arange(CTX)[:, None] * THETA ** (-np.arange(0, HD, 2) / HD)[None]
        f.write(np.cos(ang).astype("<f4").tobytes() + np.sin(ang).astype("<f4").tobytes())
    pieces = []
    for i in range(VOCAB):
        t = sp.id_to_piece(i)
        if i == BOS:
            t = "\n<s>\n"
        elif i == EOS:
            t = "\n</s>\n"
        pieces.append((t.replace("\u2581", " ").encode(), sp.get_score(i)))
    with open(folder / "tokenizer.bin", "wb") as f:
        f.write(struct.pack("<I", max(len(t) for t, _ in pieces)))
        for t, score in pieces:
            f.write(struct.pack("<fI", score, len(t)) + t)


# ----------------------------------------------------------------- held-out
def passages(sp, verses, limit=CTX):
    cur = []
    for v in verses:
        if cur and len(sp.encode("\n".join(cur + [v]))) + 1 > limit:
            yield "\n".join(cur)
            cur = []
        cur.append(v)
    yield "\n".join(cur)


def excerpt(sp, chapters, size=16000):
    """First passages of chapters spread evenly over the held-out ones."""
    got, n = [], 0
    for i in range(0, len(chapters), 4):
        t = next(passages(sp, chapters[i]))
        if len(sp.encode(t)) + 1 <= CTX:
            got.append(t)
            n += len(t)
        if n >= size:
            break
    return got


def sample(net, sp, rng, temperature=0.8, limit=400):
    ids, cache = [BOS], {}
    lg = net(ids, cache)[-1]
    while len(ids) < limit:
        p = lg.astype(np.float64) / temperature
        p = np.exp(p - p.max())
        t = int(rng.choice(VOCAB, p=p / p.sum()))
        if t in (BOS, EOS):
            break
        ids.append(t)
        lg = net([t], cache)[-1]
    return sp.decode(ids[1:])


PROMPTS = ("In the beginning God", "And it came to pass", "Blessed are they that")


def reference(w, sp, texts):
    net = Numpy(f16(w))
    ref = {
        "model": "edgeprof-kjv-280k.gguf",
        "computed_with": "numpy float32 from the F16-rounded weights (train/export.py); "
                         "log-sum-exp in float64",
        "prompts": [],
    }
    for t in PROMPTS:
        ids = [BOS] + sp.encode(t)
        lg = net(ids)[-1]
        top = np.argsort(-lg)[:5]
        cont = []
        full = list(ids)
        for _ in range(24):  # greedy continuation
            nxt = int(net(full)[-1].argmax())
            if nxt in (BOS, EOS):
                break
            cont.append(nxt)
            full.append(nxt)
        ref["prompts"].append({
            "text": t, "ids": ids,
            "top5": [{"id": int(i), "piece": sp.id_to_piece(int(i)),
                      "logit": round(float(lg[i]), 5)} for i in top],
            "greedy_next_24_ids": cont,
            "greedy_text": sp.decode(ids[1:] + cont),
        })
    every = []
    for t in texts:
        ids = [BOS] + sp.encode(t)
        every.append(nlls(net(ids[:-1]), np.array(ids[1:])))
    flat = np.concatenate(every)
    first = [BOS] + sp.encode(texts[0])
    ref["heldout"] = {
        "file": "heldout.txt",
        "chunking": "Split the file at blank lines (two line feeds) into passages, without the "
                    "file's final line feed. Encode each passage on its own, BOS first (no EOS); "
                    "line feeds inside a passage stay and encode as <0x0A>. Every passage is at "
                    "most 512 tokens with BOS and starts at position 0 with an empty cache. Every "
                    "token after BOS is one predicted position; passages follow in file order.",
        "passages": len(texts),
        "tokens_per_passage_with_bos": [len(e) + 1 for e in every],
        "positions": int(flat.size),
        "characters": sum(map(len, texts)),
        "mean_nll_first_1024_positions": round(float(flat[:1024].mean()), 6),
        "mean_nll_all_positions": round(float(flat.mean()), 6),
        "bits_per_character_all": round(float(flat.sum() / np.log(2) / sum(map(len, texts))), 5),
        "first_passage_ids_first_32": first[:32],
        "first_passage_nll_first_8": [round(float(v), 5) for v in every[0][:8]],
    }
    return ref


def report(w, sp, chapters):
    w = f16(w)
    a, b = Numpy(w), Numpy(quantize_weights(w), act8=True)
    n = c = agree = 0
    la = lb = 0.0
    for ch in chapters:
        for t in passages(sp, ch):
            ids = [BOS] + sp.encode(t)
            ids, y = ids[:-1][:CTX], np.array(ids[1:][:CTX])
            x, z = a(ids), b(ids)
            la, lb = la + nlls(x, y).sum(), lb + nlls(z, y).sum()
            agree += int((x.argmax(-1) == z.argmax(-1)).sum())
            n, c = n + len(y), c + len(t)
    print(f"held-out: {n} positions, {c} characters")
    print(f"f32 (F16-rounded weights): {la / n:.4f} nats/token, {la / c / np.log(2):.4f} bits/character")
    print(f"W8A8 group {GROUP}:        {lb / n:.4f} nats/token, {lb / c / np.log(2):.4f} bits/character")
    print(f"NLL ratio {lb / la:.5f}, top-1 agreement {100 * agree / n:.2f} %")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("outdir", type=pathlib.Path)
    ap.add_argument("--ckpt", default="final")
    ap.add_argument("--gguf", type=pathlib.Path)
    ap.add_argument("--heldout", type=pathlib.Path)
    ap.add_argument("--reference", type=pathlib.Path)
    ap.add_argument("--llama2c", type=pathlib.Path)
    ap.add_argument("--report", action="store_true")
    ap.add_argument("--sample", type=int, default=0)
    ap.add_argument("--seed", type=int, default=1)
    o = ap.parse_args()
    sp = spm.SentencePieceProcessor(model_file=str(o.outdir / "tok.model"))
    w = dict(np.load(o.outdir / f"{o.ckpt}.npz"))
    held = json.loads((o.outdir / "heldout.json").read_text())
    texts = excerpt(sp, held)
    if o.gguf:
        write_gguf(o.gguf, w, sp)
    if o.llama2c:
        write_llama2c(o.llama2c, f16(w), sp)
    if o.heldout:
        o.heldout.write_text("\n\n".join(texts) + "\n")
    if o.reference:
        o.reference.write_text(json.dumps(reference(w, sp, texts), indent=1) + "\n")
    if o.report:
        report(w, sp, held)
    net, rng = Numpy(f16(w)), np.random.default_rng(o.seed)
    for _ in range(o.sample):
        print(sample(net, sp, rng), end="\n\n----\n")


if __name__ == "__main__":
    main()
