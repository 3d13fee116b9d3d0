#!/usr/bin/env python3
"""The wire without lwmpi: latents and exported adapters drive transformers through inputs_embeds.

    lwmpi checkpoint RUN --export trainables.safetensors
    lwmpi encode CONFIG --checkpoint RUN < texts.jsonl > wires.safetensors         # in 32 or 16 bits
    lwmpi answer CONFIG --checkpoint RUN --tokens < wires.safetensors > answers.jsonl
    python tests/parity/use_wire.py MODEL_NAME MODEL_DIR trainables.safetensors wires.safetensors [answers.jsonl]

MODEL_NAME is models[i].name of CONFIG. Prints an answer a line; with answers.jsonl it compares token for token and ends
with 1 where one differs. The prompt's templates below are the defaults of prompt.question and prompt.anchor with
wire.compress = "context"; change them as CONFIG does, and give --unit-scale where it has adapter.embedding_scale = false.
Needs torch, transformers and safetensors.
"""
import argparse
import json
import sys

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file

QUESTION = "Question: {}\n"
ANCHOR = "Answer:"


# --- from here ...
class Adapter:
    """Latents (M, d_z) -> soft tokens (M, D) of one model, as src/wire/adapter.h states it."""

    def __init__(self, file, name, model, embedding_scale=True):
        weights = load_file(file)
        start = f"adapter.{name}."
        self.p = {key[len(start) :]: value for key, value in weights.items() if key.startswith(start)}
        table = model.get_input_embeddings().weight
        self.scale = table.double().pow(2).mean().sqrt().float() if embedding_scale else 1.0

    def linear(self, part, x):
        return torch.nn.functional.linear(x, self.p[f"{part}.weight"], self.p[f"{part}.bias"])

    def __call__(self, z):
        a = torch.nn.functional.layer_norm(z, z.shape[-1:], self.p["norm.weight"], self.p["norm.bias"], eps=1e-5)
        hidden = torch.nn.functional.gelu(self.linear("up", a), approximate="tanh")
        u = self.linear("down", hidden) + self.linear("skip", a)
        return self.p["gain"] * self.scale * u * torch.rsqrt(u.pow(2).mean(-1, keepdim=True) + 1e-6)


def answer(model, adapter, z, suffix_ids, max_new_tokens):
    """Greedy answer of `model` to the latents z (M, d_z), followed by the tokens of the suffix."""
    embed = model.get_input_embeddings()
    inputs = torch.cat([adapter(z), embed(torch.tensor(suffix_ids))]).unsqueeze(0)
    with torch.no_grad():
        out = model.generate(
            inputs_embeds=inputs,
            attention_mask=torch.ones(inputs.shape[:2], dtype=torch.long),
            do_sample=False,
            max_new_tokens=max_new_tokens,
            pad_token_id=0,
        )[0].tolist()
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    return out[: next((i for i, t in enumerate(out) if t in ends), len(out))]


def load_wires(file):
    """(id, question, latents) of every text."""
    with safe_open(file, "pt") as f:
        if f.metadata()["bits"] not in ("32", "16"):
            sys.exit(f"{file}: latents in {f.metadata()['bits']} bits; encode them with --bits 32 or 16")
        items, start, z = json.loads(f.metadata()["items"]), f.get_tensor("z_start"), f.get_tensor("latents").float()
    return [(item["id"], item["question"], z[start[i] : start[i + 1]]) for i, item in enumerate(items)]


# --- ... to here is all that another program needs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("model_dir")
    parser.add_argument("trainables")
    parser.add_argument("wires")
    parser.add_argument("answers", nargs="?")
    parser.add_argument("--max-new-tokens", type=int, default=16, help="eval.max_new_tokens of CONFIG")
    parser.add_argument("--bos", action="store_true", help="the suffix begins with BOS, as prompt.bos of CONFIG has it")
    parser.add_argument("--unit-scale", action="store_true", help="adapter.embedding_scale of CONFIG is false")
    args = parser.parse_args()
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model_dir, torch_dtype=torch.float32).eval()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=f"{args.model_dir}/tokenizer.json")
    adapter = Adapter(args.trainables, args.name, model, embedding_scale=not args.unit_scale)
    expected = [json.loads(line) for line in open(args.answers, encoding="utf-8")] if args.answers else None
    differ = 0
    for i, (key, question, z) in enumerate(load_wires(args.wires)):
        suffix = tokenizer.encode(QUESTION.format(question) + ANCHOR, add_special_tokens=False)
        suffix = [model.config.bos_token_id] * args.bos + suffix
        ids = answer(model, adapter, z, suffix, args.max_new_tokens)
        print(json.dumps({"id": key, "answer": tokenizer.decode(ids), "tokens": ids}, ensure_ascii=False))
        if expected is not None and expected[i]["tokens"][args.name] != ids:
            print(f"differs: {expected[i]['tokens'][args.name]}", file=sys.stderr)
            differ += 1
    if expected is not None:
        print(f"{len(expected) - differ} of {len(expected)} answers are equal, token for token", file=sys.stderr)
    sys.exit(differ > 0)


if __name__ == "__main__":
    main()
