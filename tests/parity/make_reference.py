#!/usr/bin/env python3
"""Loss and gradient of a Hugging Face causal LLM on soft tokens: the reference that `lwmpi verify` compares with.

    make_reference.py MODEL_DIR OUT.safetensors [--batch 3 --latents 6 --suffix 4 --answer 5 --seed 0]
                      [--generate OUT2.safetensors --tokens 12]

MODEL_DIR is any directory transformers can load (LlamaForCausalLM, MistralForCausalLM, ...). OUT holds, as DESIGN
section 3 defines it,

    prefix       F32 (B, M, D)   soft tokens: normal, with the RMS of the embedding table
    suffix_ids   I32 (B, S)
    answer_ids   I32 (B, A)      lengths vary from sample to sample; right-padded with -1
    loss         F32 (1)         mean over all answer tokens of the batch of -log p(token | before)
    grad_prefix  F32 (B, M, D)   d loss / d prefix

and OUT2 `prefix`, `suffix_ids` and `out_ids` I32 (B, N): N tokens of greedy generation after [prefix | suffix], no
end-of-sequence stop.

The model runs in float64 with eager attention on the weights as stored (16-bit weights are upcast, which is exact),
one sample at a time and unpadded, so no masking or padding of ours can be wrong. transformers itself computes
RMSNorm, softmax and the RoPE angles in float32 whatever the model's type.
"""
import argparse
import sys

import torch
import transformers
from safetensors.torch import save_file

# Greedy choices closer than this could turn out differently in float32; such a prefix is drawn again.
MIN_MARGIN = 2e-3


def load_model(model_dir):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        model_dir, torch_dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    model.generation_config = transformers.GenerationConfig()  # otherwise the model's own end tokens stop generate
    return model.double().eval().requires_grad_(False)


def draw_inputs(model, batch, latents, suffix, answer, seed):
    """Random inputs. The first sample has the longest answer, the second (if any) one token."""
    generator = torch.Generator().manual_seed(seed)
    table = model.get_input_embeddings().weight
    rms = table.pow(2).mean().sqrt().item()
    vocab = table.shape[0]
    prefix = (torch.randn(batch, latents, table.shape[1], generator=generator) * rms).float()
    suffix_ids = torch.randint(0, vocab, (batch, suffix), generator=generator, dtype=torch.int32)
    answer_ids = torch.full((batch, answer), -1, dtype=torch.int32)
    for b in range(batch):
        length = {0: max(answer - (batch == 1), 1), 1: 1}.get(b, 1 + (b * 7 + seed) % answer)
        answer_ids[b, :length] = torch.randint(0, vocab, (length,), generator=generator, dtype=torch.int32)
    return prefix, suffix_ids, answer_ids


def loss_and_gradient(model, prefix, suffix_ids, answer_ids):
    """DESIGN section 3: sample b reads [prefix_b | E(suffix_b) | E(answer_b[:n-1])], positions from 0."""
    embed = model.get_input_embeddings()
    soft = prefix.double().requires_grad_(True)
    total = torch.zeros((), dtype=torch.float64)
    count = 0
    for b in range(prefix.shape[0]):
        answer = answer_ids[b][answer_ids[b] >= 0].long()
        n = answer.numel()
        tokens = torch.cat([suffix_ids[b].long(), answer[: n - 1]])
        inputs = torch.cat([soft[b], embed(tokens)]).unsqueeze(0)
        logits = model(inputs_embeds=inputs, use_cache=False).logits[0, -n:]
        logp = torch.log_softmax(logits.double(), dim=-1)
        total = total - logp[torch.arange(n), answer].sum()
        count += n
    loss = total / count
    loss.backward()
    return loss.detach(), soft.grad


def greedy(model, prefix, suffix_ids, tokens):
    """Greedy continuation by transformers' generate (with its KV cache), and the smallest margin of a choice, from a
    second run without cache that must choose the same."""
    embed = model.get_input_embeddings()
    rows, margin = [], float("inf")
    with torch.no_grad():
        for b in range(prefix.shape[0]):
            inputs = torch.cat([prefix[b].double(), embed(suffix_ids[b].long())]).unsqueeze(0)
            out = model.generate(
                inputs_embeds=inputs,
                attention_mask=torch.ones(inputs.shape[:2], dtype=torch.long),
                generation_config=transformers.GenerationConfig(
                    do_sample=False, max_new_tokens=tokens, eos_token_id=None, pad_token_id=0, use_cache=True
                ),
            )[0]
            assert out.numel() == tokens, out
            logits = model(inputs_embeds=torch.cat([inputs, embed(out[:-1]).unsqueeze(0)], 1), use_cache=False).logits
            top = logits[0, -tokens:].topk(2, dim=-1)
            if not torch.equal(top.indices[:, 0], out):
                return None, 0.0
            margin = min(margin, (top.values[:, 0] - top.values[:, 1]).min().item())
            rows.append(out.to(torch.int32))
    return torch.stack(rows), margin


def metadata(seed):
    # One key: safetensors writes several in random order, and the same inputs should give the same file.
    versions = f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}"
    return {"producer": f"make_reference.py, seed {seed}, {versions}"}


def write_reference(model, out, batch, latents, suffix, answer, seed):
    prefix, suffix_ids, answer_ids = draw_inputs(model, batch, latents, suffix, answer, seed)
    loss, gradient = loss_and_gradient(model, prefix, suffix_ids, answer_ids)
    save_file(
        {
            "prefix": prefix,
            "suffix_ids": suffix_ids,
            "answer_ids": answer_ids,
            "loss": loss.float().reshape(1),
            "grad_prefix": gradient.float(),
        },
        out,
        metadata=metadata(seed),
    )
    return prefix, suffix_ids, answer_ids, loss.item(), gradient


def write_generation(model, out, batch, latents, suffix, tokens, seed):
    for attempt in range(100):
        prefix, suffix_ids, _ = draw_inputs(model, batch, latents, suffix, 1, seed + 1000 * (attempt + 1))
        out_ids, margin = greedy(model, prefix, suffix_ids, tokens)
        if margin >= MIN_MARGIN:
            break
    else:
        raise SystemExit(f"{out}: no inputs found whose greedy choices are clear")
    save_file({"prefix": prefix, "suffix_ids": suffix_ids, "out_ids": out_ids}, out, metadata=metadata(seed))
    return out_ids, margin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir")
    parser.add_argument("out")
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--latents", type=int, default=6)
    parser.add_argument("--suffix", type=int, default=4)
    parser.add_argument("--answer", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--generate", metavar="OUT2")
    parser.add_argument("--tokens", type=int, default=12)
    args = parser.parse_args()
    if min(args.batch, args.latents + args.suffix, args.answer, args.tokens) < 1:
        sys.exit("--batch, --answer, --tokens and --latents + --suffix must be at least 1")
    model = load_model(args.model_dir)
    *_, loss, gradient = write_reference(
        model, args.out, args.batch, args.latents, args.suffix, args.answer, args.seed
    )
    print(f"{args.out}: loss {loss:.9g}, |grad| {gradient.norm().item():.9g}")
    if args.generate:
        out_ids, margin = write_generation(
            model, args.generate, args.batch, args.latents, args.suffix, args.tokens, args.seed
        )
        print(f"{args.generate}: {out_ids.tolist()}, smallest margin {margin:.3g}")


if __name__ == "__main__":
    main()
