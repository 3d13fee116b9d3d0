# SPDX-License-Identifier: Apache-2.0
"""The training step of `lwmpi bench CONFIG` in PyTorch and transformers: same shapes, frozen weights without gradients,
one forward pass per model. Prints one JSON object a batch size, with the keys of `lwmpi bench --json`. All samples have
one length, so that a padded batch holds no padding: nothing would be won by packing it.

  python3 torch_peer.py --models cpu/llama cpu/qwen --batch 4 --threads 1
  python3 torch_peer.py --models ../../configs/models/Llama-3.1-8B ../../configs/models/Qwen2.5-7B --device cuda \\
      --batch 4 32 --width 768 --heads 12 --pooler_layers 1
"""
import argparse
import json
import os
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1") # only config.json is read, and it is here
import torch
import transformers
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

SUFFIX_TOKENS = 3
DTYPE_WORD = "dtype" if tuple(int(n) for n in transformers.__version__.split(".")[:2]) >= (4, 56) else "torch_dtype"


class Block(nn.Module):
    """Pre-LayerNorm attention over `states` (itself when None) and feed-forward."""

    def __init__(self, d, d_states, heads):
        super().__init__()
        self.heads = heads
        self.norm, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.q, self.k, self.v, self.o = nn.Linear(d, d), nn.Linear(d_states, d), nn.Linear(d_states, d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x, states=None):
        h = self.norm(x)
        s = h if states is None else states
        split = lambda t: t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        y = F.scaled_dot_product_attention(split(self.q(h)), split(self.k(s)), split(self.v(s)))
        x = x + self.o(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Encoder(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.embed = nn.Embedding(256, o.width)
        self.layers = nn.ModuleList(Block(o.width, o.width, o.heads) for _ in range(o.layers))
        self.norm = nn.LayerNorm(o.width)
        self.queries = nn.Parameter(torch.randn(o.latents, o.d_z) * 0.02)
        self.pooler = nn.ModuleList(Block(o.d_z, o.width, o.pooler_heads) for _ in range(o.pooler_layers))
        self.out = nn.LayerNorm(o.d_z)

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        z = self.queries.expand(ids.shape[0], -1, -1)
        for layer in self.pooler:
            z = layer(z, x)
        return self.out(z)


class Adapter(nn.Module):
    def __init__(self, d_z, d, scale):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(d_z), nn.Linear(d_z, 4 * d_z), nn.Linear(4 * d_z, d)
        self.skip, self.gain, self.scale = nn.Linear(d_z, d), nn.Parameter(torch.ones(())), scale

    def forward(self, z):
        a = self.norm(z)
        u = self.down(F.gelu(self.up(a), approximate="tanh")) + self.skip(a)
        return self.gain * self.scale * u * torch.rsqrt(u.pow(2).mean(-1, keepdim=True) + 1e-6)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", nargs="+", required=True, help="directories with a config.json")
    p.add_argument("--device", default="cpu")
    p.add_argument("--batch", type=int, nargs="+", default=[4])
    for name, default in (("latents", 32), ("d_z", 256), ("width", 256), ("heads", 4), ("layers", 2),
                          ("pooler_layers", 2), ("pooler_heads", 4), ("answer", 8), ("source", 256), ("threads", 1),
                          ("steps", 10), ("warmup", 2)):
        p.add_argument("--" + name, type=int, default=default)
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    dtype = torch.float32 if o.device == "cpu" else torch.bfloat16
    models = []
    for path in o.models:
        with torch.device(o.device): # newer versions take the type of config.json unless told
            m = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path), attn_implementation="sdpa",
                                                 **{DTYPE_WORD: dtype}).eval()
        models.append(m.requires_grad_(False))
    encoder = Encoder(o).to(o.device)
    tables = [m.get_input_embeddings().weight for m in models]
    adapters = nn.ModuleList(Adapter(o.d_z, t.shape[1], t.float().pow(2).mean().sqrt().item())
                             for t in tables).to(o.device)
    params = list(encoder.parameters()) + list(adapters.parameters())
    optimizer = torch.optim.AdamW(params, lr=1e-6, fused=o.device != "cpu")
    for batch in o.batch:
        source = torch.randint(97, 123, (batch, o.source), device=o.device)
        ids = [torch.randint(t.shape[0], (batch, SUFFIX_TOKENS + o.answer), device=o.device) for t in tables]

        def step():
            optimizer.zero_grad(set_to_none=True)
            z, loss = encoder(source), 0.0
            for m, a, t, i in zip(models, adapters, tables, ids):
                x = torch.cat([a(z).to(dtype), t[i[:, :-1]]], 1)
                h = m.model(inputs_embeds=x, use_cache=False).last_hidden_state[:, -o.answer:]
                logits = m.lm_head(h).float()
                loss = loss + F.cross_entropy(logits.flatten(0, 1), i[:, -o.answer:].flatten()) / len(models)
            loss.backward()
            nn.utils.clip_grad_norm_(params, 1.0)
            optimizer.step()

        if o.device != "cpu":
            torch.cuda.reset_peak_memory_stats() # the peak of this batch, not of the largest before it
        print(json.dumps(time_steps(o, batch, step)), flush=True)


def time_steps(o, batch, step):
    times = []
    for n in range(o.warmup + o.steps):
        begin = time.perf_counter()
        step()
        if o.device != "cpu":
            torch.cuda.synchronize()
        if n >= o.warmup:
            times.append(time.perf_counter() - begin)
    times.sort()
    # The value that so many do not exceed (nearest rank), as in `lwmpi bench`.
    median, p95 = (times[(len(times) * percent + 99) // 100 - 1] for percent in (50, 95))
    row = {"peer": f"PyTorch {torch.__version__}, transformers {transformers.__version__}", "mode": "eager",
           "device": o.device, "threads": o.threads, "batch_samples": batch, "latents": o.latents, "answer_tokens": o.answer,
           "source_tokens": o.source, "warmup_steps": o.warmup, "steps": o.steps, "samples_per_s": batch / median,
           "step_s": {"min": times[0], "median": median, "p95": p95, "max": times[-1]}}
    if o.device != "cpu":
        row["device"] = torch.cuda.get_device_name()
        row["gpu_bytes_used"] = torch.cuda.max_memory_allocated()
    return row


if __name__ == "__main__":
    main()
