# SPDX-License-Identifier: Apache-2.0
"""Trains one of the two small frozen models on text: train_llm.py {llama,qwen} STEPS [more [mix]].

Text only, from an unlimited generator over the training side of the world (no held-out triple ever appears): 1-6 facts
and their questions, BOS in different places. "more" goes on from the model written before, under strong noise on the
embeddings: a model that finds faint words in noise gives the wire a gradient long before its soft tokens look like
words. "mix" adds contexts whose facts are all of different relations, as in train.jsonl. The file written is BF16; the
F1 printed at the end is of the rounded weights, by greedy generation."""
import functools
import json
import pathlib
import random
import sys
import time

import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

import world
from init import mimetic
from score import token_f1

HERE = pathlib.Path(__file__).resolve().parent.parent
ARCH = {
    "llama": (LlamaConfig, LlamaForCausalLM, dict(
        hidden_size=128, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        intermediate_size=256, rope_theta=10000.0, rms_norm_eps=1e-5, tie_word_embeddings=False,
        attention_bias=False, mlp_bias=False, max_position_embeddings=512,
        rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                      "original_max_position_embeddings": 64})),
    "qwen": (Qwen2Config, Qwen2ForCausalLM, dict(
        hidden_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=256,
        rope_theta=10000.0, rms_norm_eps=1e-6, tie_word_embeddings=True, use_sliding_window=False,
        max_position_embeddings=512)),
}
END = {"llama": "<|end_of_text|>", "qwen": "<|endoftext|>"}
BOS = {"llama": "<|begin_of_text|>", "qwen": None}
EOS = "<end>"                 # marks the end of an answer in make_text
TEXT = 0.05                   # loss weight of everything but answers


def make_text(rng, easy):
    """A context, sometimes said again, and some of its questions: [(piece, weight)], None standing for BOS.

    `easy`: many facts of one relation, many of them said again or asked; this is what makes tiny models learn whose
    value is whose (with two candidates only they guess for a very long time)."""
    mix = "mix" in sys.argv
    rel, facts = world.make_facts(rng, False, rng.choice([3, 4, 5] if easy else [1, 1, 2, 3] if mix else [2, 2, 3]),
                                  rng.choice([0, 1, 2, 2] if mix and not easy else [0, 0, 1]))
    clear = [f for f in facts if sum(g[:2] == f[:2] for g in facts) == 1]
    terse = easy and rng.random() < 0.3                    # "Anna Paris, Boris Oslo, ..."
    say = (lambda f: f"{f[1]} {f[2]},") if terse else (lambda f: world.state(rng, f))
    pieces = [(" ".join(map(say, facts)), TEXT)]
    if rng.random() < (0.6 if easy else 0.1):
        for f in rng.sample(facts, len(facts)):
            said = say(f)
            pieces += [(" " + said[:-len(f[2]) - 2], TEXT), (" " + f[2], 1.0), (said[-1], TEXT)]
    where = rng.choice([0, 0, 0, 1, 2])                    # BOS in front, before the question, nowhere
    if where == 0:
        pieces.insert(0, (None, 0.0))
    for i, f in enumerate(rng.sample(clear, len(clear))):
        if i == 0 and where == 1:
            pieces.append((None, 0.0))
        elif i == 0:
            pieces[-1] = (pieces[-1][0] + "\n", TEXT)
        pieces += [(f"Question: {world.ask(rng, f)}\nAnswer:", TEXT), (" " + f[2], 1.0), (EOS, 1.0)]
    return pieces


def encode(tok, pieces, eos, bos):
    """ids and loss weights; pieces meet where the pre-tokenizer splits."""
    out = []
    for text, weight in pieces:
        if text is None:
            out += [(bos, 0.0)] if bos is not None else []
        else:
            out += [(t, weight) for t in ([eos] if text is EOS else tok(text))]
    return [t for t, _ in out], [w for _, w in out]


def batch(tok, rng, n, eos, bos, easy):
    rows = [encode(tok, make_text(rng, easy), eos, bos) for _ in range(n)]
    T = max(len(r[0]) for r in rows)
    ids, w = torch.zeros(n, T, dtype=torch.long), torch.zeros(n, T)
    for i, (a, b) in enumerate(rows):
        ids[i, :len(a)], w[i, :len(b)] = torch.tensor(a), torch.tensor(b)
    return ids, w


@torch.no_grad()
def text_f1(model, tok, eos, bos, rows, limit=8):
    """Greedy answers to the text prompt, one by one (right answers need a few tokens)."""
    total = 0.0
    for r in rows:
        ids = ([bos] if bos is not None else []) + tok(f"{r['context']}\nQuestion: {r['question']}\nAnswer:")
        out = []
        while len(out) < limit:
            t = int(model(torch.tensor([ids + out])).logits[0, -1].argmax())
            if t == eos:
                break
            out.append(t)
        total += token_f1(text_f1.decode(out), r["answers"])
    return total / len(rows)


def main():
    name, steps = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    torch.manual_seed(3)
    rng = random.Random(f"text {name} {sys.argv[3:]}")
    t = Tokenizer.from_file(str(HERE / name / "tokenizer.json"))
    tok = functools.lru_cache(100000)(lambda s: t.encode(s, add_special_tokens=False).ids)
    text_f1.decode = lambda ids: t.decode(ids)
    eos, bos = t.token_to_id(END[name]), BOS[name] and t.token_to_id(BOS[name])
    config_class, model_class, arch = ARCH[name]
    config = config_class(vocab_size=t.get_vocab_size(), bos_token_id=bos if bos is not None else eos, eos_token_id=eos,
                          initializer_range=0.04, torch_dtype="bfloat16", **arch)
    more = len(sys.argv) > 3
    model = model_class.from_pretrained(HERE / name, torch_dtype=torch.float32) if more else model_class(config)
    model.float()
    if not more:
        mimetic(model)
    print(name, "parameters", sum(p.numel() for p in model.parameters()), flush=True)
    rows = [json.loads(line) for line in open(HERE / "eval.jsonl")]
    decay = [p for p in model.parameters() if p.dim() > 1]
    other = [p for p in model.parameters() if p.dim() == 1]
    opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": other, "weight_decay": 0.0}],
                            lr=1.0, betas=(0.9, 0.98))
    begin, peak, running = time.time(), 2e-3 if more else 3e-3, None
    for step in range(steps):
        used = step / steps
        for g in opt.param_groups:
            g["lr"] = peak * min(1, (step + 1) / 50) * max(0.02, min(1.0, 1.6 * (1 - used)))
        ids, w = batch(tok, rng, 32, eos, bos, used < 0.3 or rng.random() < 1.2 * (1 - used))
        e = model.get_input_embeddings()(ids)
        if used > 0.6 or more:
            top, share = (4.0, 0.75) if more else (0.5, 0.5)
            level = top * torch.rand(len(e), 1, 1) * (torch.rand(len(e), 1, 1) < share)
            noisy = e + level * e.detach().pow(2).mean().sqrt() * torch.randn_like(e)
            if more:                                       # each row brought back to its length
                noisy = noisy * (e.pow(2).mean(-1, keepdim=True) / noisy.pow(2).mean(-1, keepdim=True)).sqrt()
            e = noisy
        h = model.model(inputs_embeds=e, use_cache=False).last_hidden_state[:, :-1]
        pick = (w[:, 1:] > TEXT) | ((w[:, 1:] > 0) & (torch.rand(w[:, 1:].shape) < 0.25))   # saves lm_head rows
        loss = torch.nn.functional.cross_entropy(model.lm_head(h[pick]), ids[:, 1:][pick], reduction="none")
        wt = w[:, 1:][pick]
        mean = (loss * wt).sum() / wt.sum()
        opt.zero_grad(set_to_none=True)
        mean.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        ans = loss[wt == 1].mean().item()
        running = ans if running is None else 0.95 * running + 0.05 * ans
        if (step + 1) % 50 == 0:
            print(f"{name} step {step + 1} {time.time() - begin:.0f} s answer-loss {running:.4f} text-loss "
                  f"{loss[wt < 1].mean().item():.3f}", flush=True)
    model.to(torch.bfloat16)
    model.generation_config.eos_token_id, model.config._name_or_path = eos, name
    model.save_pretrained(HERE / name, safe_serialization=True)
    f1 = text_f1(model_class.from_pretrained(HERE / name, torch_dtype=torch.float32).eval(), tok, eos, bos, rows)
    print(f"{name}: {steps} steps of 32 texts, {time.time() - begin:.0f} s, text F1 on eval.jsonl {f1:.4f}", flush=True)


if __name__ == "__main__":
    main()
