"""The model (llama architecture, interleaved-pair RoPE, tied classifier) in JAX."""
import jax, jax.numpy as jnp, numpy as np

DIM, LAYERS, HEADS, KV, HD, FF, VOCAB, CTX = 64, 5, 8, 4, 8, 192, 512, 512
EPS, THETA, GROUP = 1e-5, 10000.0, 32
SHAPES = {  # matrices are [out, in], all layers stacked
    "embd": (VOCAB, DIM), "norm": (DIM,),
    "n1": (LAYERS, DIM), "n2": (LAYERS, DIM),
    "wq": (LAYERS, HEADS * HD, DIM), "wk": (LAYERS, KV * HD, DIM),
    "wv": (LAYERS, KV * HD, DIM), "wo": (LAYERS, DIM, HEADS * HD),
    "w1": (LAYERS, FF, DIM), "w3": (LAYERS, FF, DIM), "w2": (LAYERS, DIM, FF),
}


def init(seed):
    rng, p = np.random.default_rng(seed), {}
    for k, s in SHAPES.items():
        if len(s) == 1 or k in ("n1", "n2"):
            p[k] = np.ones(s, np.float32)
        else:
            std = 0.05 if k == "embd" else s[-1] ** -0.5
            if k in ("wo", "w2"):
                std *= (2 * LAYERS) ** -0.5
            p[k] = (rng.standard_normal(s) * std).astype(np.float32)
    return p


def fake_quant(x):
    """int8 in groups of 32 along the last axis, straight-through gradient."""
    g = x.reshape(*x.shape[:-1], -1, GROUP)
    s = jnp.max(jnp.abs(g), -1, keepdims=True) / 127
    q = jnp.round(g / jnp.maximum(s, 1e-12)) * s
    return x + jax.lax.stop_gradient(q.reshape(x.shape) - x)


def rms(x, g):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPS) * g


def rope_tables(T):
    f = THETA ** (-np.arange(0, HD, 2) / HD)
    a = np.arange(T)[:, None] * f[None]
    return np.cos(a).astype(np.float32), np.sin(a).astype(np.float32)


def rope(x, cos, sin):  # x [B,T,H,HD]; pairs (2i, 2i+1)
    x = x.reshape(*x.shape[:-1], HD // 2, 2)
    a, b = x[..., 0], x[..., 1]
    c, s = cos[None, :, None], sin[None, :, None]
    return jnp.stack([a * c - b * s, a * s + b * c], -1).reshape(*x.shape[:-2], HD)


def forward(p, tok, seg=None, quant=False):
    """tok [B,T] -> logits [B,T,VOCAB].  seg keeps packed passages apart."""
    fq = fake_quant if quant else (lambda x: x)
    B, T = tok.shape
    cos, sin = rope_tables(T)
    mask = jnp.tril(jnp.ones((T, T), bool))[None]
    if seg is not None:
        mask = mask & (seg[:, :, None] == seg[:, None, :])
    bias = jnp.where(mask, 0.0, -1e9)[:, None, None]  # [B,1,1,T,T]
    E = fq(p["embd"])
    x = E[tok]
    for l in range(LAYERS):
        h = fq(rms(x, p["n1"][l]))
        wqkv = fq(jnp.concatenate([p["wq"][l], p["wk"][l], p["wv"][l]]))
        qkv = (h @ wqkv.T).reshape(B, T, HEADS + 2 * KV, HD)
        qk = rope(qkv[:, :, :HEADS + KV], cos, sin)
        q = qk[:, :, :HEADS].transpose(0, 2, 1, 3).reshape(B, KV, HEADS // KV * T, HD)
        k = qk[:, :, HEADS:].transpose(0, 2, 1, 3)
        v = qkv[:, :, HEADS + KV:].transpose(0, 2, 1, 3)
        s = jnp.einsum("bkqd,bktd->bkqt", q * HD ** -0.5, k)
        s = s.reshape(B, KV, HEADS // KV, T, T) + bias
        a = jax.nn.softmax(s, -1).reshape(B, KV, HEADS // KV * T, T)
        o = jnp.einsum("bkqt,bktd->bkqd", a, v).reshape(B, HEADS, T, HD)
        o = o.transpose(0, 2, 1, 3).reshape(B, T, HEADS * HD)
        x = x + fq(o) @ fq(p["wo"][l]).T
        h = fq(rms(x, p["n2"][l]))
        u = h @ fq(jnp.concatenate([p["w1"][l], p["w3"][l]])).T
        u = jax.nn.silu(u[..., :FF]) * u[..., FF:]
        x = x + fq(u) @ fq(p["w2"][l]).T
    return fq(rms(x, p["norm"])) @ E.T
