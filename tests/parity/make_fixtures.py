#!/usr/bin/env python3
"""Makes tests/parity/fixtures: tiny random checkpoints of every family, with references by transformers.

    python tests/parity/make_fixtures.py [NAME ...]        no NAME: all of them

Needs torch (CPU), transformers 4.46 and safetensors. Run by hand; the results are committed, and neither the build
nor the tests need Python. Everything is drawn from seeds, so a second run writes the same files (to the last bits of
another torch build's arithmetic).

Each fixture isolates one feature, and must be able to fail: `without` describes the same model with that feature
ignored, and its loss has to differ by far more than verify's tolerance, or this script stops.
"""
import copy
import json
import os
import shutil
import sys
import tempfile
import zlib

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import (
    LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM,
)

import make_reference

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "fixtures")
MIN_EFFECT = 5e-3  # relative difference in loss; verify's tolerance is 1e-4

SMALL = dict(
    hidden_size=32, intermediate_size=28, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=67, max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False,
)
LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
)
FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
}
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16


def zero_biases(model):
    for name, p in model.named_parameters():
        if name.endswith(".bias"):
            p.zero_()


def drop_mlp_biases(model):
    for name, p in model.named_parameters():
        if "mlp" in name and name.endswith(".bias"):
            p.zero_()


def tie(model):
    model.lm_head.weight.copy_(model.model.embed_tokens.weight)


def untie(model):
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.roll(1, 0), requires_grad=False)


def swap_kv_heads(model):
    """What reading query head h with key head h % kv_heads instead of h / group would see."""
    c = model.config
    groups = c.num_attention_heads // c.num_key_value_heads
    head_dim = getattr(c, "head_dim", c.hidden_size // c.num_attention_heads)
    order = torch.arange(c.num_attention_heads).reshape(c.num_key_value_heads, groups).T.reshape(-1)
    rows = (order[:, None] * head_dim + torch.arange(head_dim)).reshape(-1)
    for layer in model.model.layers:
        layer.self_attn.q_proj.weight.copy_(layer.self_attn.q_proj.weight[rows])
        if layer.self_attn.q_proj.bias is not None:
            layer.self_attn.q_proj.bias.copy_(layer.self_attn.q_proj.bias[rows])
        layer.self_attn.o_proj.weight.copy_(layer.self_attn.o_proj.weight[:, rows])


def flatten_norms(model):
    for name, p in model.named_parameters():
        if "norm" in name:
            p.fill_(1.0)


def config_of(**changes):
    return lambda config: {**config, **changes}


# name -> family, changes to SMALL, stored dtype, inputs, and options:
#   without, without_config   a change of the loaded weights, or of the config, under which the loss must differ
#   shards    save_pretrained's max_shard_size
#   patch     edits config.json after saving; `reload` False: transformers 4.46 cannot read the result
#   norms     dtype of the norm weights in the file, where it differs
#   generate  also write generate.safetensors
FIXTURES = {
    "llama-untied": dict(family="llama", change=dict(num_key_value_heads=4), dtype=F32, inputs=(3, 6, 4, 5),
                         without=tie, generate=True,
                         generation_config={"eos_token_id": [2, 5, 66], "transformers_version": "4.46.3"}),
    "llama-tied": dict(family="llama", change=dict(tie_word_embeddings=True, vocab_size=71), dtype=BF16,
                       inputs=(2, 5, 3, 4), without=untie),
    "llama-gqa-headdim": dict(family="llama", change=dict(num_attention_heads=6, num_key_value_heads=2, head_dim=10),
                              dtype=F16, inputs=(3, 7, 2, 6), without=swap_kv_heads, generate=True),
    "llama-biases": dict(family="llama", change=dict(attention_bias=True, mlp_bias=True), dtype=F16,
                         inputs=(2, 6, 3, 5), without=drop_mlp_biases),
    "llama-rope-llama3": dict(family="llama", change=dict(num_attention_heads=2, num_key_value_heads=1,
                              rope_scaling=LLAMA3), dtype=F16, inputs=(2, 24, 6, 6),
                              without_config=dict(rope_scaling=None), generate=True),
    "llama-rope-linear": dict(family="llama", change=dict(rope_scaling={"type": "linear", "factor": 2.5}), dtype=BF16,
                              inputs=(2, 12, 4, 5), without_config=dict(rope_scaling=None)),
    "llama-rope-parameters": dict(family="llama", change=dict(rope_theta=500000.0, rope_scaling=LLAMA3), dtype=F16,
                                  inputs=(2, 16, 4, 4), without_config=dict(rope_theta=10000.0),
                                  patch="rope_parameters", reload=False),
    "llama-sharded": dict(family="llama", change={}, dtype=F16, inputs=(3, 6, 4, 5), without=flatten_norms,
                          shards="16KB"),
    "llama-f16": dict(family="llama", change=dict(rms_norm_eps=0.05), dtype=F16, inputs=(3, 6, 4, 5),
                      without_config=dict(rms_norm_eps=1e-5)),
    "llama-bf16": dict(family="llama", change={}, dtype=BF16, norms=F32, inputs=(3, 6, 4, 5), without=flatten_norms),
    "llama-mqa": dict(family="llama", change=dict(num_key_value_heads=1), dtype=F16, inputs=(3, 6, 0, 5),
                      generate=True),
    "llama-defaults": dict(family="llama", change=dict(num_key_value_heads=4, rms_norm_eps=1e-6), dtype=F16,
                           inputs=(1, 8, 0, 6), patch="defaults"),
    "qwen2-untied": dict(family="qwen2", change=dict(num_key_value_heads=4, rope_theta=1e6, rms_norm_eps=1e-6),
                         dtype=F32, inputs=(1, 6, 4, 5), without=zero_biases),
    "qwen2-tied": dict(family="qwen2", change=dict(tie_word_embeddings=True, vocab_size=71), dtype=F16,
                       inputs=(3, 6, 4, 5), without=untie, generate=True),
    "qwen2-gqa": dict(family="qwen2", change=dict(hidden_size=48, num_attention_heads=6, num_key_value_heads=2),
                      dtype=F16, inputs=(3, 1, 9, 5), without=swap_kv_heads),
    "qwen2-bf16": dict(family="qwen2", change={}, dtype=BF16, inputs=(2, 6, 1, 7), without=zero_biases),
    "qwen2-window-unused": dict(family="qwen2", change={}, dtype=BF16, inputs=(2, 10, 4, 5), patch="window",
                                without_config=dict(use_sliding_window=True, sliding_window=4, max_window_layers=0)),
    "mistral-headdim": dict(family="mistral", change=dict(num_attention_heads=6, num_key_value_heads=2, head_dim=10,
                            rope_theta=1e6, sliding_window=None), dtype=BF16, inputs=(3, 6, 4, 5),
                            without=swap_kv_heads, generate=True),
    "mistral-window-unused": dict(family="mistral", change=dict(sliding_window=128), dtype=F16, inputs=(2, 10, 4, 5),
                                  without_config=dict(sliding_window=4)),
}


def randomise(model, generator):
    """Weights at which nothing is neutral: attention neither uniform nor one-hot, norms and biases away from 1 and 0."""

    def normal(p, std):
        p.copy_(torch.randn(p.shape, generator=generator) * std)

    for name, p in model.named_parameters():
        fan_in = p.shape[-1]
        if "norm" in name:
            p.copy_(0.5 + torch.rand(p.shape, generator=generator))
        elif name.endswith(".bias"):
            normal(p, 0.3)
        elif "embed_tokens" in name:
            normal(p, 0.25)
        elif "q_proj" in name or "k_proj" in name:
            normal(p, 1.4 / fan_in**0.5)
        elif "lm_head" in name:
            normal(p, 2.0 / fan_in**0.5)
        else:
            normal(p, 1.0 / fan_in**0.5)


def edit_json(path, edit):
    with open(path) as f:
        value = json.load(f)
    value = edit(value)
    with open(path, "w") as f:
        json.dump(value, f, indent=2, sort_keys=True)
        f.write("\n")


def patch_rope_parameters(config):
    """As transformers 5 writes it."""
    config = dict(config)
    config["rope_parameters"] = {**config.pop("rope_scaling"), "rope_theta": config.pop("rope_theta")}
    config["dtype"] = config.pop("torch_dtype")
    return config


def patch_defaults(config):
    """The least that a llama config.json needs; the rest is defaults."""
    keep = ("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    return {key: config[key] for key in keep}


PATCHES = {
    None: lambda config: config,
    "rope_parameters": patch_rope_parameters,
    "defaults": patch_defaults,
    "window": config_of(use_sliding_window=False, sliding_window=4, max_window_layers=0),
}


def rewrite_norms(directory, dtype):
    path = os.path.join(directory, "model.safetensors")
    with safe_open(path, "pt") as f:
        tensors = {name: f.get_tensor(name) for name in f.keys()}
    tensors = {name: t.to(dtype) if "norm" in name else t for name, t in tensors.items()}
    save_file(tensors, path, metadata={"format": "pt"})


def check_effect(name, spec, directory, arguments, loss):
    """The loss must depend on what the fixture is about. Returns by how much, relatively."""
    with tempfile.TemporaryDirectory() as other:
        shutil.copytree(directory, other, dirs_exist_ok=True)
        edit_json(os.path.join(other, "config.json"), config_of(**spec.get("without_config", {})))
        model = make_reference.load_model(other)
    if "without" in spec:
        with torch.no_grad():
            spec["without"](model)
    changed, _ = make_reference.loss_and_gradient(model, *arguments)
    effect = abs(changed.item() - loss) / abs(loss)
    if effect < MIN_EFFECT:
        raise SystemExit(f"{name}: ignoring its feature changes the loss by {effect:.1e} only; choose other sizes")
    return effect


def make(name, spec):
    seed = zlib.crc32(name.encode()) % 100000
    torch.manual_seed(seed)
    config_class, model_class = FAMILIES[spec["family"]]
    model = model_class(config_class(**{**SMALL, **copy.deepcopy(spec["change"])}))
    with torch.no_grad():
        randomise(model, torch.Generator().manual_seed(seed))
    out = os.path.join(ROOT, name)
    shutil.rmtree(out, ignore_errors=True)
    model.to(spec["dtype"]).save_pretrained(out, max_shard_size=spec.get("shards", "1GB"))
    if "norms" in spec:
        rewrite_norms(out, spec["norms"])
    os.remove(os.path.join(out, "generation_config.json"))
    if "generation_config" in spec:
        with open(os.path.join(out, "generation_config.json"), "w") as f:
            json.dump(spec["generation_config"], f, indent=2)
            f.write("\n")
    config_path = os.path.join(out, "config.json")
    patch = PATCHES[spec.get("patch")]
    if spec.get("reload", True):
        edit_json(config_path, patch)
    model = make_reference.load_model(out)
    batch, latents, suffix, answer = spec["inputs"]
    prefix, suffix_ids, answer_ids, loss, gradient = make_reference.write_reference(
        model, os.path.join(out, "reference.safetensors"), batch, latents, suffix, answer, seed
    )
    effect = ""
    if "without" in spec or "without_config" in spec:
        e = check_effect(name, spec, out, (prefix, suffix_ids, answer_ids), loss)
        effect = f", without its feature {e:.1%} off"
    if spec.get("generate"):
        make_reference.write_generation(
            model, os.path.join(out, "generate.safetensors"), min(batch, 2), latents, suffix, 12, seed
        )
    if not spec.get("reload", True):
        edit_json(config_path, patch)
    size = sum(os.path.getsize(os.path.join(out, f)) for f in os.listdir(out))
    print(f"{name}: loss {loss:.6f}, |grad| {gradient.norm().item():.5f}{effect}, {size} bytes", flush=True)
    return size


def main():
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)  # the order of additions, so the last bits, depends on it
    names = sys.argv[1:] or list(FIXTURES)
    total = sum(make(name, FIXTURES[name]) for name in names)
    print(f"{len(names)} fixtures, {total} bytes")


if __name__ == "__main__":
    main()
