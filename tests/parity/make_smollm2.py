#!/usr/bin/env python3
"""What transformers makes of SmolLM2-135M-Instruct: the files of smollm2/, which test_smollm2.c compares with.

    python3 configs/smollm2/prepare.py models
    python3 tests/parity/make_smollm2.py models/SmolLM2-135M-Instruct

smollm2/reference.safetensors   loss and gradient on soft tokens (make_reference.py)
smollm2/generate.jsonl          a line per text prompt: {"prompt", "special", "prompt_ids", "ids", "text"}: its ids (those
                                of special tokens where "special"), and the greedy continuation in float32 up to an end
                                token, which is left out. A prompt with a choice closer than MIN_MARGIN is refused.
"""
import json
import os
import sys

import torch
import transformers
from make_reference import MIN_MARGIN, load_model, write_reference

HERE = os.path.dirname(os.path.abspath(__file__))
TOKENS = 24
CONTEXT = (
    "The Panthers defense gave up just 308 points, ranking sixth in the league, while also leading the NFL in "
    "interceptions with 24 and boasting four Pro Bowl selections."
)


def chat(text):
    return (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    )


PROMPTS = [
    ("The capital of France is", False),
    ("def fibonacci(n):\n", False),
    (f"{CONTEXT}\nQuestion: How many points did the Panthers defense surrender?\nAnswer:", False),
    ("1, 2, 4, 8, 16, 32,", False),
    ("Die Hauptstadt von Österreich heißt", False),
    ("In 1969, the first man to walk on the Moon was", False),
    ("Once upon a time,", False),
    (chat("What is the boiling point of water in degrees Celsius?"), True),
    (chat(f"{CONTEXT}\n\nHow many interceptions are the Panthers credited with? Answer with a number only."), True),
    (chat("Name three primary colours."), True),
    (chat("Write one sentence about the sea."), False),  # the same marks as plain text
]


def generate(model, tokenizer, prompt, special):
    tokenizer.encode_special_tokens = not special
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids
    inputs = torch.tensor([ids])
    with torch.no_grad():
        out = model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            generation_config=transformers.GenerationConfig(
                do_sample=False, max_new_tokens=TOKENS, eos_token_id=model.config.eos_token_id, pad_token_id=0
            ),
        )[0]
        top = model(out[:-1].unsqueeze(0)).logits[0, len(ids) - 1 :].topk(2, dim=-1)
    assert torch.equal(top.indices[:, 0], out[len(ids) :]), "generation with and without a cache differ"
    margin = (top.values[:, 0] - top.values[:, 1]).min().item()
    new = [t for t in out[len(ids) :].tolist() if t != model.config.eos_token_id]
    row = {"prompt": prompt, "special": special, "prompt_ids": ids, "ids": new, "text": tokenizer.decode(new)}
    return row, margin


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = os.path.join(HERE, "smollm2")
    os.makedirs(folder, exist_ok=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1]).backend_tokenizer
    model = load_model(sys.argv[1]).float()
    with open(os.path.join(folder, "generate.jsonl"), "w", encoding="utf-8") as file:
        for prompt, special in PROMPTS:
            row, margin = generate(model, tokenizer, prompt, special)
            print(f"{margin:.3g} {row['text']!r}" + ("" if margin >= MIN_MARGIN else "  REFUSED: too close"), flush=True)
            if margin >= MIN_MARGIN:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    *_, loss, _ = write_reference(
        model.double(), os.path.join(folder, "reference.safetensors"), batch=2, latents=4, suffix=5, answer=4, seed=0
    )
    print(f"loss {loss:.9g}")


if __name__ == "__main__":
    main()
