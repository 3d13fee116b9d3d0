# SPDX-License-Identifier: Apache-2.0
"""The latent wire of lwmpi in PyTorch: found the settings of configs/tiny.cfg. Options: wire_prototype.py --help."""
import argparse
import json
import math
import pathlib
import time

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModelForCausalLM

from score import token_f1

HERE = pathlib.Path(__file__).resolve().parent.parent
SEPARATOR, BYTES = 257, 258
EOS = {"llama": "<|end_of_text|>", "qwen": "<|endoftext|>"}


def rope(x, pos, theta):
    """Rotate-half RoPE; x (B,H,T,d), pos (B,T) may be fractional."""
    half = x.shape[-1] // 2
    ang = pos[:, None, :, None] * theta ** (-torch.arange(half) / half)
    c, s = ang.cos(), ang.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * c - b * s, b * c + a * s], -1)


class Attention(nn.Module):
    """Heads of q (B,Q,dq) over kv (B,T,dkv), RoPE, key mask. local: see local_bias."""

    def __init__(self, dq, dkv, heads, theta, local, offsets):
        super().__init__()
        self.heads, self.theta = heads, theta
        self.q, self.k, self.v, self.o = (nn.Linear(a, dq) for a in (dq, dkv, dkv, dq))
        for m in (self.q, self.k, self.v, self.o):
            nn.init.normal_(m.weight, std=m.in_features ** -0.5)
            nn.init.zeros_(m.bias)
        if local:
            self.local_bias(dq // heads, local, offsets)

    def local_bias(self, d, strength, offsets):
        """Biases of q and k such that, before training, head h looks at byte (own position + offset h)."""
        half = d // 2
        amp = math.sqrt(strength * math.sqrt(d) / half)
        freq = self.theta ** (-torch.arange(half) / half)
        with torch.no_grad():
            for h in range(self.heads):
                self.k.bias[h * d:h * d + half] = amp
                off = offsets[h % len(offsets)]
                self.q.bias[h * d:h * d + half] = amp * torch.cos(freq * off)
                self.q.bias[h * d + half:(h + 1) * d] = amp * torch.sin(freq * off)

    def forward(self, x, kv, qpos, kpos, mask):
        split = lambda t: t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q, k = rope(split(self.q(x)), qpos, self.theta), rope(split(self.k(kv)), kpos, self.theta)
        y = F.scaled_dot_product_attention(q, k, split(self.v(kv)), attn_mask=mask[:, None, None, :])
        return self.o(y.transpose(1, 2).flatten(2))


class Feed(nn.Sequential):
    def __init__(self, d, mult):
        super().__init__(nn.LayerNorm(d), nn.Linear(d, mult * d), nn.GELU(approximate="tanh"), nn.Linear(mult * d, d))
        for m in (self[1], self[3]):
            nn.init.normal_(m.weight, std=m.in_features ** -0.5)
            nn.init.zeros_(m.bias)


class Encoder(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.o = o
        self.embed = nn.Embedding(BYTES, o.width)
        self.blocks = nn.ModuleList()
        for _ in range(o.layers):
            self.blocks.append(nn.ModuleList([nn.LayerNorm(o.width), Attention(
                o.width, o.width, o.heads, o.theta, o.local, o.offsets), Feed(o.width, o.ffn)]))
        self.norm = nn.LayerNorm(o.width)
        if o.pooler == "queries":
            self.queries = nn.Parameter(torch.randn(o.latents, o.dz) * 0.02)
            self.pool = nn.ModuleList(nn.ModuleList([nn.LayerNorm(o.dz), Attention(
                o.dz, o.width, o.pool_heads, o.theta, o.local, o.pool_offsets), Feed(o.dz, o.ffn)])
                for _ in range(o.pool_layers))
        else:
            self.out = nn.Linear(o.width, o.dz)
        self.out_norm = nn.LayerNorm(o.dz)

    def forward(self, ids, lengths):
        B, T = ids.shape
        pos = torch.arange(T, dtype=torch.float).expand(B, T)
        mask = pos < lengths[:, None]
        x = self.embed(ids)
        for norm, att, feed in self.blocks:
            n = norm(x)
            x = x + att(n, n, pos, pos, mask)
            x = x + feed(x)
        x = self.norm(x)
        M = self.o.latents
        if self.o.pooler == "queries":
            z = self.queries.expand(B, -1, -1)
            qpos = (torch.arange(M) + 0.5) * lengths[:, None] / M - 0.5
            for norm, att, feed in self.pool:
                z = z + att(norm(z), x, qpos, pos, mask)
                z = z + feed(z)
        else:
            lo = torch.arange(M) * lengths[:, None] // M
            hi = torch.maximum((torch.arange(M) + 1) * lengths[:, None] // M, lo + 1)
            p = pos[:, None, :]
            span = ((p >= lo[..., None]) & (p < hi[..., None])).float()
            z = self.out(span @ x / span.sum(-1, keepdim=True))
        return self.out_norm(z)


class Adapter(nn.Module):
    def __init__(self, dz, h, d, rms, centre):
        super().__init__()
        self.norm, self.up, self.down, self.skip = nn.LayerNorm(dz), nn.Linear(dz, h), nn.Linear(h, d), nn.Linear(dz, d)
        for m in (self.up, self.down, self.skip):
            nn.init.normal_(m.weight, std=m.in_features ** -0.5)
            nn.init.zeros_(m.bias)
        with torch.no_grad():
            self.skip.bias.copy_(centre / rms)             # --centre 1: start around the mean word (slower here)
        self.gain, self.rms = nn.Parameter(torch.ones(())), rms

    def forward(self, z):
        z = self.norm(z)
        p = self.down(F.gelu(self.up(z), approximate="tanh")) + self.skip(z)
        return self.gain * self.rms * p * torch.rsqrt(p.pow(2).mean(-1, keepdim=True) + 1e-6)


class Frozen:
    def __init__(self, name, o):
        self.name, self.o = name, o
        self.model = AutoModelForCausalLM.from_pretrained(HERE / name, torch_dtype=torch.float32).eval()
        for p in self.model.parameters():
            p.requires_grad_(False)
        self.tok = Tokenizer.from_file(str(HERE / name / "tokenizer.json"))
        self.table = self.model.get_input_embeddings().weight
        self.rms = self.table.pow(2).mean().sqrt().item()
        self.eos = self.tok.token_to_id(EOS[name])
        self.bos = self.tok.token_to_id("<|begin_of_text|>") if name == "llama" and o.bos else None
        self.layer_params = sum(p.numel() for n, p in self.model.named_parameters() if "layers." in n)

    def ids(self, s):
        return self.tok.encode(s, add_special_tokens=False).ids

    def suffix(self, row):
        ask = self.ids(f"Question: {row['question']}\n") if self.o.compress == "context" else []
        return ([self.bos] if self.bos is not None else []) + ask + self.ids("Answer:")

    def prepare(self, rows):
        return [(self.suffix(r), self.ids(" " + r["answers"][0]) + [self.eos]) for r in rows]

    def states(self, prefix, seqs):
        """Final states (B,L,D) of [prefix | token ids], right-padded (harmless under causal attention)."""
        L = max(len(s) for s in seqs)
        ids = torch.tensor([s + [0] * (L - len(s)) for s in seqs])
        x = torch.cat([prefix, self.table[ids]], 1)
        return self.model.model(inputs_embeds=x, use_cache=False).last_hidden_state

    def loss(self, prefix, items, w_first):
        h = self.states(prefix, [s + a[:-1] for s, a in items])
        M = prefix.shape[1]
        b = [i for i, (s, a) in enumerate(items) for _ in a]
        t = [M + len(s) - 1 + k for s, a in items for k in range(len(a))]
        y = torch.tensor([v for _, a in items for v in a])
        w = torch.tensor([1.0 + w_first * (k == 0) for _, a in items for k in range(len(a))])
        ce = F.cross_entropy(self.model.lm_head(h[b, t]), y, reduction="none")
        return (ce * w).sum() / len(y), ce[w > 1].mean().item() if w_first else ce.mean().item()

    @torch.no_grad()
    def answers(self, prefix, rows, limit=5):
        outs, done = [[] for _ in rows], [False] * len(rows)
        suffixes = [self.suffix(r) for r in rows]
        M = prefix.shape[1]
        for _ in range(limit):
            h = self.states(prefix, [s + o for s, o in zip(suffixes, outs)])
            last = torch.tensor([M + len(s) + len(o) - 1 for s, o in zip(suffixes, outs)])
            top = self.model.lm_head(h[torch.arange(len(rows)), last]).argmax(-1).tolist()
            for i, v in enumerate(top):
                done[i] = done[i] or v == self.eos
                if not done[i]:
                    outs[i].append(v)
            if all(done):
                break
        return [self.tok.decode(o) for o in outs]


def source(row, compress):
    text = list(row["context"].encode())
    return text + [SEPARATOR] + list(row["question"].encode()) if compress == "prompt" else text


def main():
    p = argparse.ArgumentParser()
    for name, default in (("compress", "context"), ("pooler", "queries")):
        p.add_argument("--" + name, default=default)
    for name, default in (("latents", 16), ("dz", 64), ("width", 64), ("layers", 1), ("heads", 4), ("ffn", 2),
                          ("pool-layers", 1), ("pool-heads", 4), ("hidden", 128), ("batch", 16), ("samples", 24000),
                          ("bos", 0), ("seed", 1), ("eval-every", 0), ("threads", 1), ("rows", 10000)):
        p.add_argument("--" + name, type=int, default=default)
    for name, default in (("lr", 2e-3), ("decay", 0.01), ("w-first", 1.0), ("theta", 100.0), ("local", 4.0),
                          ("beta2", 0.98), ("centre", 0.0), ("warm", 0.05)):
        p.add_argument("--" + name, type=float, default=default)
    p.add_argument("--offsets", type=float, nargs="+", default=[-2, -1, 1, 2])
    p.add_argument("--pool-offsets", type=float, nargs="+", default=[-2, -1, 0, 1])
    o = p.parse_args()
    print(vars(o), flush=True)
    torch.set_num_threads(o.threads)
    torch.manual_seed(o.seed)
    load = lambda f: [json.loads(line) for line in open(HERE / f)]
    train, ev = load("train.jsonl")[:o.rows], load("eval.jsonl")
    llms = [Frozen(n, o) for n in ("llama", "qwen")]
    encoder = Encoder(o)
    adapters = nn.ModuleList(Adapter(o.dz, o.hidden, f.table.shape[1], f.rms, f.table.mean(0) * o.centre) for f in llms)
    named = [(n, q) for m in (encoder, adapters) for n, q in m.named_parameters()]
    matrices = [q for n, q in named if q.dim() > 1 and "embed" not in n and "queries" not in n]
    rest = [q for n, q in named if not (q.dim() > 1 and "embed" not in n and "queries" not in n)]
    params = matrices + rest
    opt = torch.optim.AdamW([{"params": matrices, "weight_decay": o.decay}, {"params": rest, "weight_decay": 0.0}],
                            lr=1.0, betas=(0.9, o.beta2), eps=1e-8)
    src = [source(r, o.compress) for r in train]
    esrc = [source(r, o.compress) for r in ev]
    items = {f.name: f.prepare(train) for f in llms}

    def encode(texts):
        lengths = torch.tensor([len(t) for t in texts])
        ids = torch.tensor([t + [0] * (int(lengths.max()) - len(t)) for t in texts])
        return encoder(ids, lengths)

    # FLOP of a mean sample: 6 per trained weight and byte (or latent), 4 per frozen weight and token
    T = sum(map(len, src)) / len(src)
    byte_w = sum(q.numel() for n, q in encoder.blocks.named_parameters())
    flop = 6 * T * (byte_w + 2 * o.layers * T * o.width)
    flop += 6 * o.latents * sum(q.numel() for n, q in adapters.named_parameters())
    if o.pooler == "queries":
        flop += 6 * o.latents * sum(q.numel() for n, q in encoder.pool.named_parameters()) + 12 * T * o.width * o.dz
    for f in llms:
        n = sum(len(s) + len(a) - 1 for s, a in items[f.name]) / len(src)
        a = sum(len(a) for s, a in items[f.name]) / len(src)
        flop += 4 * f.layer_params * (o.latents + n) + 4 * a * f.table.numel()
    print(f"trained weights {sum(q.numel() for q in params)}, mean bytes {T:.0f}, {flop / 1e6:.0f} MFLOP a sample, "
          f"{flop * o.samples / 1e12:.1f} TFLOP in all", flush=True)

    def evaluate():
        with torch.no_grad():
            z = encode(esrc)
            out = {}
            for f, a in zip(llms, adapters):
                for tag, zz in (("wire", z), ("shuffled", z.roll(1, 0))):
                    got = f.answers(a(zz), ev)
                    out[f"{f.name} {tag}"] = round(sum(token_f1(g, r["answers"]) for g, r in zip(got, ev)) / len(ev), 3)
        return out

    steps, order, begin, mean = o.samples // o.batch, [], time.time(), [None, None]
    gen = torch.Generator().manual_seed(o.seed)
    for step in range(steps):
        while len(order) < o.batch:
            order += torch.randperm(len(train), generator=gen).tolist()
        idx, order = order[:o.batch], order[o.batch:]
        warm = max(1, int(o.warm * steps))
        for g in opt.param_groups:
            g["lr"] = o.lr * (min(1, (step + 1) / warm) if step < warm else
                              0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))))
        z = encode([src[i] for i in idx])
        total = 0
        for j, (f, a) in enumerate(zip(llms, adapters)):
            loss, first = f.loss(a(z), [items[f.name][i] for i in idx], o.w_first)
            total = total + loss / len(llms)
            mean[j] = first if mean[j] is None else 0.97 * mean[j] + 0.03 * first
        opt.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        if (step + 1) % max(1, steps // 20) == 0:
            print(f"step {step + 1} samples {(step + 1) * o.batch} {time.time() - begin:.0f} s first-token loss "
                  f"{mean[0]:.3f} {mean[1]:.3f} gain {adapters[0].gain.item():.2f} {adapters[1].gain.item():.2f}",
                  flush=True)
        if o.eval_every and (step + 1) % o.eval_every == 0:
            print(evaluate(), flush=True)
    print(f"{time.time() - begin:.0f} s", evaluate(), flush=True)


if __name__ == "__main__":
    main()
