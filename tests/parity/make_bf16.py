#!/usr/bin/env python3
"""Writes fixtures/bf16.txt: how far Hugging Face transformers itself is from each reference when it computes in bf16.

A line a fixture that this version of transformers understands: name, relative error of the loss, relative error (2-norm) of the gradient. That is what the precision
costs on these small random models, and the bound for a device that computes in bf16 (test_verify.sh).
Needs torch, transformers and safetensors; run by hand when fixtures change.
"""
import pathlib

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

FIXTURES = pathlib.Path(__file__).parent / "fixtures"


def errors(folder, dtype):
    ref = load_file(folder / "reference.safetensors")
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").to(dtype).eval()
    for p in model.parameters():
        p.requires_grad_(False)
    embed = model.get_input_embeddings()
    tokens = int((ref["answer_ids"] >= 0).sum())
    loss, grad = 0.0, torch.zeros_like(ref["prefix"])
    for b in range(ref["prefix"].shape[0]):
        answer = ref["answer_ids"][b]
        answer = answer[answer >= 0].long()
        prefix = ref["prefix"][b : b + 1].clone().requires_grad_(True)
        rows = [prefix.to(dtype), embed(ref["suffix_ids"][b].long())[None], embed(answer[:-1])[None]]
        logits = model(inputs_embeds=torch.cat(rows, 1), use_cache=False).logits[0, -len(answer) :].float()
        part = torch.nn.functional.cross_entropy(logits, answer, reduction="sum") / tokens
        part.backward()
        loss += part.item()
        grad[b] = prefix.grad[0]
    want, want_grad = ref["loss"].item(), ref["grad_prefix"]
    return abs(loss - want) / abs(want), ((grad - want_grad).norm() / want_grad.norm()).item()


def main():
    torch.set_num_threads(1)
    lines = []
    for folder in sorted(p for p in FIXTURES.iterdir() if p.is_dir()):
        exact = errors(folder, torch.float32)
        if exact[0] > 1e-5 or exact[1] > 1e-4:
            print(f"{folder.name}: left out, this transformers reads its config.json differently: {exact}")
            continue
        lines.append("%s %.3e %.3e\n" % (folder.name, *errors(folder, torch.bfloat16)))
    (FIXTURES / "bf16.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
