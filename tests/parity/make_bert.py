#!/usr/bin/env python3
"""Makes the references of test_bert.c, bert/tiny and bert/768: last hidden states of BERT models, by transformers.

    python tests/parity/make_bert.py

Needs torch (CPU), transformers 4.46, tokenizers and safetensors; run by hand. References are computed in float64 on the
weights as stored, one unpadded sequence at a time: `ids` I32 (tokens), `start` I32 (sequences + 1), `hidden` F32
(tokens, d). tiny has the spellings of old files (gamma, beta, the prefix "bert.", two shards) and the tanh GELU.
768 is too large for the tree: its weights are a formula, which the test writes down again.
"""
import json
import os
import sys
import zlib

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "bert")


def splitmix(x):
    x = (x + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    x = ((x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)).astype(np.uint64)
    x = ((x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)).astype(np.uint64)
    return x ^ (x >> np.uint64(31))


def formula(name, shape):
    """Element i: mean + scale * u, u in [-1, 1) of 24 bits from SplitMix64; see make() of test_bert.c."""
    count = int(np.prod(shape))
    with np.errstate(over="ignore"):
        bits = splitmix((np.uint64(zlib.crc32(name.encode())) << np.uint64(32)) + np.arange(count, dtype=np.uint64))
    u = (bits >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0
    gain = name.endswith("LayerNorm.weight")
    scale = 0.25 if "embeddings" in name or "LayerNorm" in name or name.endswith("bias") else 0.0625
    return torch.from_numpy(((1.0 if gain else 0.0) + scale * u).astype(np.float32)).reshape(tuple(shape))


def reference(path, model, sequences):
    model = model.double().eval()
    with torch.no_grad():
        hidden = [model(torch.tensor([s])).last_hidden_state[0] for s in sequences]
    start = np.cumsum([0] + [len(s) for s in sequences])
    save_file({"ids": torch.tensor([i for s in sequences for i in s], dtype=torch.int32),
               "start": torch.tensor(start, dtype=torch.int32),
               "hidden": torch.cat(hidden).float().contiguous()}, path)


def random_sequences(seed, lengths, vocab):
    r = np.random.default_rng(seed)
    return [r.integers(0, vocab, n).tolist() for n in lengths]


def write_config(folder, config):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({"architectures": ["BertModel"], "model_type": "bert", **config}, f, indent=2)
        f.write("\n")


def fixture(name, lengths, **config):
    folder = os.path.join(ROOT, name)
    write_config(folder, config)
    model = BertModel(BertConfig(**config, attn_implementation="eager"), add_pooling_layer=False)
    state = {k: formula(k, p.shape) for k, p in model.state_dict().items()}
    model.load_state_dict(state)
    reference(os.path.join(folder, "reference.safetensors"), model, random_sequences(7, lengths,
                                                                                     config["vocab_size"]))
    return folder, state


def main():
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    folder, state = fixture("tiny", [5, 1, 24, 13], hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
                            intermediate_size=40, vocab_size=701, max_position_embeddings=24, hidden_act="gelu_new")
    old = {"bert." + k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
           for k, v in state.items()}
    names = sorted(old)
    shards = [names[::2], names[1::2]]
    files = ["model-0000%d-of-00002.safetensors" % (i + 1) for i in range(2)]
    for part, file in zip(shards, files):
        save_file({k: old[k] for k in part}, os.path.join(folder, file))
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {}, "weight_map": {k: f for p, f in zip(shards, files) for k in p}}, f, indent=1)
        f.write("\n")
    fixture("768", [9, 16, 1], hidden_size=768, num_hidden_layers=2, num_attention_heads=12,
            intermediate_size=512, vocab_size=64, max_position_embeddings=16, layer_norm_eps=1e-12)


if __name__ == "__main__":
    main()
