#!/usr/bin/env python3
"""Makes the files of this folder with Hugging Face `tokenizers`; run by hand, never by the build.

    python3 make_goldens.py [SHARED_DIR]        (pip: tokenizers 0.20.3; SHARED_DIR is ../shared of the checkout)

texts.jsonl        our own texts, {"text": ...} a line
NAME.json          small tokenizers of five families, trained on our own texts
NAME.golden        per text of texts.jsonl: the ids of NAME.json
NAME.decode.jsonl  {"ids", "all", "skip"}: decoded with and without special tokens
llama-3.1.golden, qwen2.5.golden   the same for the real files, over the texts of real_texts()

A line of a golden file is COUNT:CRC of the ids with special-token text as plain text, and, if they differ, a space
and the same with special tokens parsed. CRC is the CRC-32 (zlib) of the ids as little-endian int32.
"""
import json
import os
import random
import struct
import sys
import unicodedata
import zlib

import tokenizers
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "../../../../shared")

SENTENCES = [
    "The quick brown fox jumps over the lazy dog, doesn't it?", "I'LL say they'Ve gone; we're late and I'd rather stay.",
    "A frozen language model reads thirty-two soft tokens instead of the whole prompt.",
    "Measure twice, cut once: the bandwidth was 3.35 TB/s, not 4,300 GB/s.",
    "Der Zug nach Köln fährt um 7:45 Uhr ab, sagte die Schaffnerin über Lautsprecher.",
    "Größere Straßen führen durch süße, öde Übergänge zwischen Dörfern.",
    "El año pasado llovió muchísimo; ¿quién lo habría dicho? ¡Nadie!",
    "La niña pequeña corrió detrás del autobús número 42 hasta la esquina.",
    "Și-a amintit că țara era frumoasă în după-amiezile târzii de toamnă.",
    "Câți oameni știu să înoate în mare când vântul bate dinspre răsărit?",
    "Buổi sáng ở Hà Nội, người ta uống cà phê sữa đá và ăn phở.",
    "Trẻ em học tiếng Việt bằng những bài hát ngắn và dễ nhớ.",
    "昨天晚上下了一场大雨,今天早上的空气特别清新。", "他在二〇二四年写了一本关于天文学的书。",
    "すべての道はローマに通ず。カタカナもひらがなもある。", "한국어 문장도 몇 개 들어 있어야 합니다.",
    "Всё хорошо, что хорошо кончается.", "Ἐν ἀρχῇ ἦν ὁ λόγος.", "النص العربي يُكتب من اليمين إلى اليسار.", "שָׁלוֹם עוֹלָם",
    "हिन्दी में कुछ शब्द और अंक १२३।", "ภาษาไทยไม่มีช่องว่างระหว่างคำ",
]
CODE = [
    "def f(x):\n    return x ** 2\n", "for (int i = 0; i < n; i++) {\n\tsum += a[i];\n}\n", "#include <stdio.h>\n",
    "x = {\"key\": [1, 2.5e-3, null]}\r\n", "SELECT * FROM t WHERE id=42;", "\\frac{a}{b} $x^2$", "https://a.example/?q=1&r=%20",
    "  - item\n    - nested\n\n\n", "if (!ok) goto done;", "λ x. x", "0xDEADBEEF 1_000_000 -1e-9", "<td class='a'>&nbsp;</td>",
]
EMOJI = ["👨\u200d👩\u200d👧\u200d👦", "🏳️\u200d🌈", "👍🏽", "🇩🇪🇷🇴", "😀", "❤️", "1️⃣", "☃", "\u200d", "\ufe0f", "🧑🏿\u200d🚀"]
CONTRACTIONS = ["'s", "'S", "'ſ", "'t", "'RE", "'Ve", "'m", "'LL", "'d", "n't", "’s", "'", "''ll", "'K", "'ß"]
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", "\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\u1680", "\u180e",
          "\u2000", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b", "\ufeff", " \n ", "\n \n"]
NUMBERS = ["1", "12", "123", "1234", "1234567", "٣٤", "²", "½", "Ⅷ", "①", "१२३", "𝟘𝟙", "3.14", "1,000", "〇", "㊿"]
CONTROLS = ["\x00", "\x01", "\x07", "\x1b[0m", "\x7f", "\x80", "\x9f", "\xad", "\ufffe", "\uffff", "\U0010ffff", "\ue000"]
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>",
           "</tool_call>", "<|im_", "_end|>", "<|", "|>", "<s>", "<mask>", "<word>", "<é>", "<e\u0301>"]
MARKS = [chr(c) for c in (*range(0x300, 0x315), 0x323, 0x327, 0x328, 0x338, 0x345, 0x5b4, 0x64b, 0x93c, 0x94d, 0x3099, 0xe38,
                          0xf71, 0x20d0, 0x1d165, 0x1df9, 0x10f49, 0x11839)]


def random_char(r):
    while True:
        low, high = r.choice([(0x20, 0x7f), (0, 0x300), (0x300, 0x3000), (0x3000, 0x10000), (0x10000, 0x30000), (0, 0x110000)])
        c = r.randrange(low, high)
        # Letters later than Unicode 14 would tie the goldens to one version of PCRE2.
        if not 0xd800 <= c < 0xe000 and unicodedata.category(chr(c)) != "Cn":
            return chr(c)


def own_texts(count=640):
    r = random.Random(20240607)
    texts = [""] + SENTENCES + CODE + EMOJI + CONTRACTIONS + SPACES + NUMBERS + CONTROLS + SPECIAL
    texts += [unicodedata.normalize("NFD", s) for s in SENTENCES]
    texts += ["a" * 300, " " * 300, "\n" * 100, "\r\n" * 50, "1" * 100, "é" * 120, "e\u0301" * 60, "!" * 200, "ab" * 100,
              "😀" * 50, "'s" * 40, "a\u0301\u0323" * 30, "\u1100\u1161\u11a8" * 5, " a" * 60, "x" * 29 + "y", "x" * 30 + "y"]
    pools = [CODE, EMOJI, CONTRACTIONS, SPACES, SPACES, NUMBERS, CONTROLS, SPECIAL, MARKS]
    while len(texts) < count:
        parts = []
        for _ in range(r.randrange(1, 12)):
            k = r.random()
            if k < 0.3:
                words = r.choice(SENTENCES).split(" ")
                i = r.randrange(len(words))
                parts.append(r.choice(["", " "]) + " ".join(words[i:i + r.randrange(1, 4)]))
            elif k < 0.4:
                parts.append(random_char(r) * r.choice([1, 1, 2, 5]))
            else:
                parts.append(r.choice(r.choice(pools)) * r.choice([1, 1, 1, 2, 3]))
        texts.append("".join(parts))
    return texts


def real_texts(texts):
    """XQuAD's paragraphs, every fifth question, the next one in NFD for four languages; then our own texts."""
    out = []
    for language in ("en", "de", "es", "ro", "vi", "zh"):
        with open(os.path.join(SHARED, "data/xquad/xquad.%s.json" % language), encoding="utf-8") as f:
            articles = json.load(f)["data"]
        questions = 0
        for article in articles:
            for paragraph in article["paragraphs"]:
                out.append(paragraph["context"])
                for qa in paragraph["qas"]:
                    if questions % 5 == 0:
                        out.append(qa["question"])
                    elif questions % 5 == 1 and language not in ("en", "zh"):
                        out.append(unicodedata.normalize("NFD", qa["question"]))
                    questions += 1
    return out + texts


def golden(path, tokenizer, texts):
    def entry(text, parse_special):
        tokenizer.encode_special_tokens = not parse_special
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        return "%d:%08x" % (len(ids), zlib.crc32(struct.pack("<%di" % len(ids), *ids)))

    with open(path, "w", encoding="ascii") as f:
        for text in texts:
            plain, parsed = entry(text, False), entry(text, True)
            f.write(plain + ("" if parsed == plain else " " + parsed) + "\n")


def write_decode(path, tokenizer, texts):
    r = random.Random(7)
    size = tokenizer.get_vocab_size()
    with open(path, "w", encoding="utf-8") as f:
        for i in range(60):
            if i < 20:
                tokenizer.encode_special_tokens = False
                ids = tokenizer.encode(texts[-1 - 7 * i], add_special_tokens=False).ids[:40]
            else:
                ids = [r.choice([r.randrange(size + 5), r.randrange(256), size - 1 - r.randrange(12)])
                       for _ in range(r.randrange(1, 12))]
            row = {"ids": ids, "all": tokenizer.decode(ids, skip_special_tokens=False),
                   "skip": tokenizer.decode(ids, skip_special_tokens=True)}
            f.write(json.dumps(row) + "\n")


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def byte_level(use_regex, add_prefix_space=False):
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


def split(pattern):
    return {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}, byte_level(False)]}


def added(content, special=True, **flags):
    token = {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {**token, **flags, "special": special}


def bos(name, token_id):
    piece = {"SpecialToken": {"id": name, "type_id": 0}}
    return {"type": "TemplateProcessing", "single": [piece, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [piece, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {name: {"id": name, "ids": [token_id], "tokens": [name]}}}


def train(pattern, size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(SENTENCES * 2 + CODE * 2, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    model["merges"] = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
    return model


def wordpiece(name):
    """tokenizer.json in the style of bert-base-uncased ("bert"), and with every choice the other way ("bertcased")."""
    cased = name == "bertcased"
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=25 if cased else 100))
    tokenizer.normalizer = normalizers.BertNormalizer(not cased, not cased, False if cased else None, not cased)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    prefix = "@@" if cased else "##"
    trainer = trainers.WordPieceTrainer(vocab_size=700, min_frequency=2, show_progress=False, special_tokens=names,
                                        continuing_subword_prefix=prefix)
    tokenizer.train_from_iterator(SENTENCES * 2 + CODE * 2, trainer)
    file = json.loads(tokenizer.to_str())
    size = len(file["model"]["vocab"])
    file["model"]["continuing_subword_prefix"] = prefix
    file["decoder"] = {"type": "WordPiece", "prefix": prefix, "cleanup": not cased}
    tokens = [added(t) for t in names]
    if cased:
        tokens += [added("<\u00c9>", special=False, normalized=True)]
        file["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    else:
        tokens += [added("<\u00c9>", special=False, normalized=True), added("dog", special=False, single_word=True)]
        file["post_processor"] = bos("[CLS]", 2)
        file["post_processor"]["single"].append({"SpecialToken": {"id": "[SEP]", "type_id": 0}})
        file["post_processor"]["special_tokens"]["[SEP]"] = {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}
    file["added_tokens"] = []
    for token in tokens:
        place = file["model"]["vocab"].get(token["content"])
        if place is None:
            place, size = size, size + 1
        file["added_tokens"].append({"id": place, **token})
    return file


def family(name):
    """tokenizer.json of one small family, as a dictionary."""
    if name.startswith("bert"):
        return wordpiece(name)
    file = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": None, "post_processor": None, "decoder": byte_level(True), "model": None}
    if name == "llama3":
        model = train(LLAMA3, 520)
        # Whole words that merging does not reach: ignore_merges finds them.
        for word in ("Ġbrown", "Ġfox", "ä¸Ģ", "123", "Ġpequeña"):
            model["vocab"].setdefault(word, len(model["vocab"]))
        model["ignore_merges"] = True
        model["merges"] = [" ".join(m) for m in model["merges"]]
        tokens = [added(t) for t in ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")]
        file["pre_tokenizer"] = split(LLAMA3)
        file["post_processor"] = {"type": "Sequence", "processors": [
            byte_level(True), bos("<|begin_of_text|>", len(model["vocab"]))]}
    elif name == "qwen2":
        model = train(QWEN2, 480)
        model["continuing_subword_prefix"] = model["end_of_word_suffix"] = ""
        tokens = [added(t) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
        tokens += [added(t, special=False) for t in ("<tool_call>", "</tool_call>")]
        file["normalizer"] = {"type": "NFC"}
        file["pre_tokenizer"] = split(QWEN2)
        file["post_processor"] = byte_level(False)
    elif name == "gpt2":
        # Every flag of added tokens, ByteLevel with its own pattern and a space in front, a nested normalizer.
        model = train(LLAMA3, 400)
        del model["type"]
        model["merges"] = ["#version: 0.2"] + [" ".join(m) for m in model["merges"]]
        tokens = [added("<|endoftext|>"), added("<mask>", lstrip=True), added("<s>", rstrip=True, special=False),
                  added("<word>", single_word=True), added("<e\u0301>", special=False, normalized=True),
                  added("dog", special=False, single_word=True, lstrip=True, rstrip=True, normalized=True)]
        file["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}]}
        file["pre_tokenizer"] = byte_level(True, add_prefix_space=True)
        file["post_processor"] = {"type": "RobertaProcessing", "sep": ["<|endoftext|>", len(model["vocab"])],
                                  "cls": ["<|endoftext|>", len(model["vocab"])], "trim_offsets": True,
                                  "add_prefix_space": True}
    else:
        # Digits, special tokens inside the vocabulary as in SmolLM2, and a vocabulary that lacks some bytes.
        model = train(LLAMA3, 400)
        lacks = "ðŁ"
        names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        keys = names + [t for t in model["vocab"] if not set(t) & set(lacks)]
        model["vocab"] = {t: i for i, t in enumerate(keys)}
        model["merges"] = [m for m in model["merges"] if not set("".join(m)) & set(lacks)]
        model["unk_token"], model["fuse_unk"] = "<|endoftext|>", True
        tokens = [added(t) for t in names]
        file["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, byte_level(True)]}
    for token in tokens:
        place = model["vocab"].get(token["content"])
        file["added_tokens"].append({"id": len(model["vocab"]) + len(file["added_tokens"]) if place is None else place,
                                     **token})
    file["model"] = model
    return file


def main():
    print("tokenizers", tokenizers.__version__)
    texts = own_texts()
    with open(os.path.join(HERE, "texts.jsonl"), "w", encoding="utf-8", newline="\n") as f:
        for text in texts:
            f.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    for name in ("llama3", "qwen2", "gpt2", "smollm", "bert", "bertcased"):
        path = os.path.join(HERE, name)
        with open(path + ".json", "w", encoding="utf-8") as f:
            json.dump(family(name), f, ensure_ascii=False, separators=(",", ":"))
            f.write("\n")
        tokenizer = Tokenizer.from_file(path + ".json")
        golden(path + ".golden", tokenizer, texts)
        write_decode(path + ".decode.jsonl", tokenizer, texts)
        print(name, tokenizer.get_vocab_size(), "tokens,", len(texts), "texts")
    for name in ("llama-3.1", "qwen2.5"):
        path = os.path.join(SHARED, "tokenizers", name, "tokenizer.json")
        if os.path.exists(path):
            all_texts = real_texts(texts)
            golden(os.path.join(HERE, name + ".golden"), Tokenizer.from_file(path), all_texts)
            print(name, len(all_texts), "texts")


if __name__ == "__main__":
    main()
