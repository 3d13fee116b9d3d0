# SPDX-License-Identifier: Apache-2.0
"""Writes tokenizer.json and its two small companions for ../llama (Llama-3 layout) and ../qwen (Qwen2 layout)."""
import json
import pathlib
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import world

HERE = pathlib.Path(__file__).resolve().parent.parent
HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def corpus(seed, n, terse):
    """Texts of the training side of the world; `terse` adds bare words, which shifts the merges."""
    rng = random.Random(seed)
    for _ in range(n):
        rel, facts = world.make_facts(rng, False, 2, rng.choice([0, 1]))
        asked = rng.choice([f for f in facts if f[0] == rel])
        context = " ".join(world.state(rng, f) for f in facts)
        yield f"{context}\nQuestion: {world.ask(rng, asked)}\nAnswer: {asked[2]}"
        if terse:
            yield "".join(" " + rng.choice(world.RELATIONS[r][k]) for r in world.NAMES for k in (0, 1))


def build(digits, normalizer, size, specials, texts):
    tok = Tokenizer(models.BPE())
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(HEAD + digits + TAIL), "isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=size - len(specials), show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tok.train_from_iterator(texts, trainer)
    tok.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    return tok


def save(tok, folder, config, **model):
    """Like the published files: merges as "a b", and the model's flags set."""
    data = json.loads(tok.to_str())
    data["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]]
    data["model"].update(model)
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def main():
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    tok = build(r"\p{N}{1,3}", None, 896, specials, corpus(11, 20000, False))
    bos = tok.token_to_id(specials[0])
    tok.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{specials[0]} $A", pair=f"{specials[0]} $A {specials[0]}:1 $B:1",
                                      special_tokens=[(specials[0], bos)])])
    tok.decoder = decoders.ByteLevel()
    save(tok, HERE / "llama", {"bos_token": specials[0], "eos_token": specials[1], "clean_up_tokenization_spaces": True,
                               "model_max_length": 512, "tokenizer_class": "PreTrainedTokenizerFast"},
         ignore_merges=True)

    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tok = build(r"\p{N}", normalizers.NFC(), 848, specials, corpus(12, 20000, True))
    tok.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tok.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    save(tok, HERE / "qwen", {"add_bos_token": False, "add_prefix_space": False, "bos_token": None,
                              "eos_token": specials[0], "pad_token": specials[0], "errors": "replace",
                              "clean_up_tokenization_spaces": False, "model_max_length": 512,
                              "tokenizer_class": "PreTrainedTokenizerFast"},
         continuing_subword_prefix="", end_of_word_suffix="")


if __name__ == "__main__":
    main()
