#!/usr/bin/env python3
"""Makes fixtures/NAME/lora.safetensors: fixtures read as an encoder's backbone, with low-rank updates by PEFT.

    python tests/parity/make_lora_fixtures.py [NAME ...]        no NAME: all of them

Needs what make_fixtures.py needs, and peft 0.13 (with accelerate 1.0). For each variant below, states are the output of
transformers' LlamaModel or Qwen2Model (final norm included) and gradients those of sum(states * d_states) with respect
to A and B, by autograd through PEFT's LoRA layers, in float64, one unpadded sequence at a time. The file holds

    ids                             I32 (B, S)        right-padded with -1
    L.MAP.a, L.MAP.b                F32 (r, in), (out, r): layer L, MAP one of q_proj .. down_proj, as in PEFT
    VARIANT.states, .d_states       F32 (rows, d)     the sequences one after another
    VARIANT.L.MAP.grad_a, .grad_b   as a and b
    VARIANT.bf16                    F32 (2)           how far off the same computation in bf16 is, by PEFT itself: the
                                                      relative errors of the states, and of all gradients together

and, as metadata, `alpha`. Variants: `causal`, `both` (every row sees its whole sequence), `first` (the first layer
alone, causal).
"""
import os
import sys
import warnings
import zlib

import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "fixtures")
NAMES = ["llama-gqa-headdim", "qwen2-gqa"]
MAPS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LENGTHS = [5, 1, 7]
RANK, ALPHA = 2, 3
MIN_EFFECT = 0.02  # a hundred times the tolerance of the gradients


def load(directory, layers):
    config = transformers.AutoConfig.from_pretrained(directory)
    config.num_hidden_layers = layers or config.num_hidden_layers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transformers.AutoModel.from_pretrained(
            directory, config=config, torch_dtype=torch.float32, attn_implementation="eager", local_files_only=True
        )
    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=MAPS))
    return model.double().eval()


def updates(model):
    """{"L.MAP.a": parameter, ...}"""
    out = {}
    for name, p in model.named_parameters():
        parts = name.split(".")
        if "lora_" in name:
            layer = parts[parts.index("layers") + 1]
            map_name = next(m for m in MAPS if m in parts)
            out[f"{layer}.{map_name}.{'a' if 'lora_A' in parts else 'b'}"] = p
    return out


def states_of(model, ids, both):
    rows = []
    for b, n in enumerate(LENGTHS):
        mask = torch.zeros(1, 1, n, n, dtype=model.dtype) if both else None  # added to the scores
        out = model(input_ids=ids[b : b + 1, :n].long(), attention_mask=mask, use_cache=False)
        rows.append(out.last_hidden_state[0])
    return torch.cat(rows)


def run(directory, ids, values, d_states, layers, both, dtype=torch.float64):
    model = load(directory, layers).to(dtype)
    parameters = updates(model)
    with torch.no_grad():
        for key, p in parameters.items():
            p.copy_(values[key])
    states = states_of(model, ids, both)
    (states * d_states.double()).sum().backward()
    return states.detach().double(), {key: p.grad.double() for key, p in parameters.items()}


def apart(a, b):
    return ((a - b).norm() / b.norm()).item()


def make(name):
    directory = os.path.join(ROOT, name)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) % 100000)
    shapes = {key: p.shape for key, p in updates(load(directory, 0)).items()}
    # A third as large as the weights they go with.
    values = {k: (torch.randn(s, generator=generator) * (0.2 if k.endswith("b") else s[1] ** -0.5)).float()
              for k, s in shapes.items()}
    config = transformers.AutoConfig.from_pretrained(directory)
    ids = torch.full((len(LENGTHS), max(LENGTHS)), -1, dtype=torch.int32)
    for b, n in enumerate(LENGTHS):
        ids[b, :n] = torch.randint(0, config.vocab_size, (n,), generator=generator, dtype=torch.int32)
    out = {"ids": ids, **values}
    d_states = torch.randn(sum(LENGTHS), config.hidden_size, generator=generator)
    results = {}
    for variant, layers, both in (("causal", 0, False), ("both", 0, True), ("first", 1, False)):
        states, gradients = results[variant] = run(directory, ids, values, d_states, layers, both)
        rough = run(directory, ids, values, d_states, layers, both, torch.bfloat16)
        flat = [torch.cat([g.flatten() for g in each.values()]) for each in (rough[1], gradients)]
        out[f"{variant}.bf16"] = torch.tensor([apart(rough[0], states), apart(*flat)])
        out[f"{variant}.states"] = states.float()
        out[f"{variant}.d_states"] = d_states.clone()
        out.update({f"{variant}.{key[:-1]}grad_{key[-1]}": g.float() for key, g in gradients.items()})
    # What the fixture is about has to show in it.
    plain = run(directory, ids, {k: torch.zeros_like(v) for k, v in values.items()}, d_states, 0, False)[0]
    effects = [apart(results["both"][0], results["causal"][0]), apart(plain, results["causal"][0]),
               apart(results["first"][0], results["causal"][0])]
    if min(effects) < MIN_EFFECT:
        raise SystemExit(f"{name}: its features change the states by {effects} only")
    path = os.path.join(directory, "lora.safetensors")
    save_file(out, path, metadata={"alpha": str(ALPHA)})
    print(f"{name}: effects {['%.2f' % e for e in effects]}, {os.path.getsize(path)} bytes, in bf16 "
          + ", ".join(f"{v} {out[v + '.bf16'].tolist()}" for v in results))


def main():
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    for name in sys.argv[1:] or NAMES:
        make(name)


if __name__ == "__main__":
    main()
