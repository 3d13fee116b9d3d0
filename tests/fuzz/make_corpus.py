#!/usr/bin/env python3
"""Writes the seed inputs of tests/fuzz/corpus that are made, not found, from the fixtures of the tree.

Run it in the source folder after a change of a format. Reproducers of bugs (bug-*) and what fuzzing added stay.
"""
import json
import pathlib
import struct

ROOT = pathlib.Path(__file__).resolve().parent
TREE = ROOT.parent.parent
SPLIT = b"\x1e\x1e"


def put(target, name, data):
    folder = ROOT / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def tensors(header, data=b""):
    text = json.dumps(header, separators=(",", ":")).encode() if isinstance(header, dict) else header
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors():
    put("safetensors", "kinds", tensors({
        "__metadata__": {"format": "pt"}, "a": entry("F32", [2, 3], 0, 24), "b": entry("BF16", [4], 24, 32),
        "c": entry("F16", [2], 32, 36), "d": entry("I32", [], 36, 40), "e": entry("F8_E4M3", [3, 0], 40, 40),
        "f": entry("U8", [2], 40, 42), "g": entry("F4", [2], 42, 43)}, bytes(range(43))))
    put("safetensors", "truncated", tensors({"a": entry("F32", [2], 0, 8)}, b"1234"))
    put("safetensors", "overlap", tensors({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, b"123"))
    put("safetensors", "huge", tensors({"a": entry("F32", [2**62, 4], 0, 2**63 - 1)}, b"123"))


def index():
    a = tensors({"a": entry("F32", [1], 0, 4)}, b"1234")
    b = tensors({"b": entry("BF16", [2], 0, 4)}, b"1234")
    good = {"metadata": {"total_size": 8}, "weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
    put("safetensors_index", "two", SPLIT.join([json.dumps(good).encode(), a, b]))
    put("safetensors_index", "missing", SPLIT.join([json.dumps(good).encode(), a]))
    for i, name in enumerate(["../a.safetensors", "/etc/passwd", ".", "", "x/../a.safetensors", "a.safetensors/"]):
        text = json.dumps({"weight_map": {"a": name}}).encode()
        put("safetensors_index", f"outside{i}", SPLIT.join([text, a]))


def byte_alphabet():
    shown = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    hidden = iter(range(0x100, 0x144))
    return [chr(b) if b in shown else chr(next(hidden)) for b in range(256)]


def small_tokenizer(**changes):
    letters = ["a", "b", "c", "\u0120", "1", "!"]
    vocab = {c: i for i, c in enumerate(letters + ["ab", "abc", "\u0120a"])}
    root = {"version": "1.0", "added_tokens": [{"id": 9, "content": "<s>", "special": True},
                                               {"id": 10, "content": "<x>", "lstrip": True, "rstrip": True}],
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}| ?\\p{L}+|\\s+(?!\\S)|\\s+"}, "behavior": "Isolated",
                 "invert": False},
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]},
            "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}],
                               "special_tokens": {"<s>": {"ids": [9]}}},
            "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "unk_token": "!", "fuse_unk": True, "ignore_merges": True, "vocab": vocab,
                      "merges": ["a b", ["ab", "c"], "\u0120 a"]}}
    root.update(changes)
    return json.dumps(root, ensure_ascii=False, separators=(",", ":")).encode()


def tokenizer():
    text = "abc ab <x> 12 e\u0301 <s>!".encode()
    put("tokenizer", "small", small_tokenizer() + SPLIT + text)
    put("tokenizer", "gpt2", small_tokenizer(pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True},
                                             normalizer=None, post_processor=None) + SPLIT + text)
    for behavior in ["Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"]:
        put("tokenizer", behavior, small_tokenizer(pre_tokenizer={"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"String": " "}, "behavior": behavior, "invert": True},
            {"type": "ByteLevel", "add_prefix_space": False}]}) + SPLIT + text)
    vocab = {c: i for i, c in enumerate(byte_alphabet())}
    put("tokenizer", "bytes", small_tokenizer(added_tokens=[], post_processor=None, model={
        "vocab": vocab, "merges": []}) + SPLIT + text)
    pieces = ["[UNK]", "[CLS]", "[SEP]", "a", "ab", "##c", "##cd", "d", ".", "\u4e00", "[", "]", "cls"]
    wordpiece = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                 "max_input_chars_per_word": 6, "vocab": {c: i for i, c in enumerate(pieces)}}
    bert = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
            "lowercase": True}
    for name, cleanup in [("wordpiece", True), ("wordpiece-cased", False)]:
        put("tokenizer", name, small_tokenizer(
            model=wordpiece, normalizer={**bert, "lowercase": cleanup}, pre_tokenizer={"type": "BertPreTokenizer"},
            added_tokens=[{"id": 1, "content": "[CLS]", "special": True},
                          {"id": 13, "content": "<X\u00e9>", "normalized": True}],
            post_processor={"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
            decoder={"type": "WordPiece", "prefix": "##", "cleanup": cleanup}) + SPLIT +
            "abcd. \u00c1bc\u4e00 [CLS] <xe> e\u0301\u0323 abcdabcd".encode())


def encode():
    for i, text in enumerate(["", "Hello, world!  12345\n\n\tx", "caf\u00e9 e\u0301\u0327 \uac00\u1100\u1161 \U0001f600",
                              "<|endoftext|><|im_end|> '\u017f 'S don't", "\u00a0\u2003\u3000  ", "a" * 200,
                              "\u0300" * 40]):
        put("encode", f"text{i}", text.encode())
    put("encode", "bad", b"ab\xc3(\xff\xed\xa0\x80")


def lines():
    put("lines", "three", '{"text": "Hello, w\u00f6rld!"}\n{"text": "a\\u0000b", "x": 1}\n{"text": ""}'.encode())
    put("lines", "bad", b'{"text": "a"}\n\n{"text": 3}\n{"text": "\xff"}\n')


def pattern():
    for i, text in enumerate([
            r"'s|'t| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
            r"[\x{4e00}-\u9fa5]+|\p{Han}{,2}|(?<=a)(?<!b)(?>c)(?-i:d)|[]\]&\-]", r"(?i)ab|\v\S\a", r"(a|b)*+c{2,}?$^"]):
        put("pattern", f"pattern{i}", text.encode())


def rows():
    jsonl = ('{"context": "caf\u00e9 \\u00e9", "question": "q1", "answers": ["a", "b"]}\n'
             '{"prompt": "p", "answer": "x"}\r\n\n{"context": "", "question": "q", "answer": "z"}').encode()
    put("jsonl", "three", b"\x00" + jsonl)
    put("jsonl", "bom", b"\x13\xef\xbb\xbf" + jsonl)
    put("jsonl", "bad", b"\x0f[]\n{\n{\"prompt\": \"\xff\"}\n{\"prompt\": \" \", \"answer\": \"x\"}\n" + jsonl)
    with open(TREE / "configs/tiny/eval.jsonl", "rb") as file:
        put("jsonl", "tiny", b"\x20" + b"".join(file.readline() for _ in range(3)))
    qa = {"id": "i1", "question": "q1", "answers": [{"text": "a", "answer_start": 0}, {"text": "b"}]}
    bad = {"question": "", "answers": []}
    squad = {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": "c \u00e9", "qas": [qa, bad, qa]}]},
                                        {"paragraphs": 3}, {"paragraphs": [{"context": "d", "qas": [qa]}]}]}
    put("squad", "good", b"\x00" + json.dumps({"data": squad["data"][:1] and [
        {"paragraphs": [{"context": "c", "qas": [qa, qa]}]}]}).encode())
    put("squad", "bad", b"\x2f" + json.dumps(squad).encode())
    hotpot = [{"_id": "h1", "question": "q1", "answer": "yes", "type": "comparison", "level": "hard",
               "supporting_facts": [["A", 0]], "context": [["A", ["One \u00e9.", " Two."]], ["B", []]]},
              {"id": "h2", "question": "q2", "answer": "a [b], \"c\"", "supporting_facts": {"title": [], "sent_id": []},
               "context": {"title": ["A", "B"], "sentences": [["One.", "Two."], ["Three."]]}}]
    wrong = [3, {"question": "q", "answer": "a", "context": [["A"]]}, {"question": "q", "answer": "", "context": []},
             {"question": "q", "answer": "a", "context": {"title": ["A"], "sentences": []}}]
    put("hotpot", "two", b"\x00" + json.dumps(hotpot).encode())
    put("hotpot", "lines", b"\x00\xef\xbb\xbf" + "\n".join(json.dumps(x) for x in hotpot).encode())
    put("hotpot", "bad", b"\x0f" + json.dumps(wrong[:2] + hotpot + wrong[2:]).encode())
    put("hotpot", "cut", b"\x0f" + json.dumps(hotpot).encode()[:-1])
    put("text", "plain", b"\x00\xef\xbb\xbf" + (
        "A first document, of two windows\r\nor three.\f\n\n\fThe caf\u00e9 has \u65e5\u672c\u8a9e\u306e\u6587\u66f8\u3067\u3059"
        "\u3002\fx\f").encode())
    put("text", "bad", b"\x0fgood text\f\xff\fa\0b\fmore good text")
    put("text", "jsonl", b"\x01" + b'{"text": "Some words in a line, and some more."}\n{"text": "x"}\n3\n{"text": " y z "}')
    put("text", "squad", b"\x01" + json.dumps({"data": [{"paragraphs": [
        {"context": "Some words in a paragraph."}, {"context": ""}, {"qas": []}]}]}).encode())


def config():
    for name in ["tiny"]:
        put("config", name, (TREE / f"configs/{name}.cfg").read_bytes())
    small = b'models = ( { name = "m"; path = "d"; } );\nbatch: { global = 4; }\n'
    put("config", "small", small)
    put("config", "overrides", SPLIT.join([small, b"train.lr=1e-3", b"models.m.path=../x", b"batch.per_rank = 2"]))
    put("config", "overrides2", SPLIT.join([small, b"gpus=auto", b'models=({name="a b"; path="x";})', b"wire={latents=8;}"]))
    put("config", "numbers", small + b"seed = 0x80000000; train: { lr = 1.5e-3; epochs = 2147483648L; }; /* x */ # y\n")
    put("config", "strings", small + b'prompt: { anchor = "a\\n\\x41" "b"; }; run: { dir = "x"; };')


def hf_config():
    fixtures = TREE / "tests/parity/fixtures"
    for name in ["llama-rope-llama3", "llama-rope-parameters", "llama-rope-linear", "qwen2-gqa", "qwen2-window-unused",
                 "mistral-window-unused"]:
        put("hf_config", name, (fixtures / name / "config.json").read_bytes())
    put("hf_config", "generation", (fixtures / "llama-untied/config.json").read_bytes() + SPLIT +
        b'{"eos_token_id": [1, 2, 3]}')


def manifest():
    good = {"format": "lwmpi checkpoint", "version": 1, "lwmpi_version": "0.1.0", "created": "2025-01-31T12:00:00Z",
            "step": 5, "samples": 20, "epoch": 1, "skipped": 1, "skipped_in_row": 0, "train_s": 1.5,
            "config_hash": "0123456789abcdef", "data_hash": "0123456789abcdef",
            "models": [{"name": "a", "weights_hash": "0" * 16, "tokenizer_hash": "f" * 16}],
            "files": {"state.safetensors": {"bytes": 5, "xxh64": "STATE"}}, "manifest_xxh64": "0" * 16}
    state = "28c61d64bc5ffdee"
    text = json.dumps(good, indent=1).replace("STATE", state)
    put("manifest", "good", text.encode())
    for i, name in enumerate(["../manifest.json", "/etc/passwd", ".", "a/b", "x\u001b[2J"]):
        other = json.loads(text)
        other["files"][name] = {"bytes": 5, "xxh64": state}
        put("manifest", f"outside{i}", json.dumps(other, indent=1).encode())


def token_cache():
    def cache(count, lists, vocab, version=2):
        head = b"LWTOKEN\0" + struct.pack("<IIQqqqqqqq", 0x01020304, version, 7, count, 0, 0, vocab,
                                          *[len(ids) for _, ids in lists])
        body = b"".join(struct.pack(f"<{len(s)}q{len(i)}i", *s, *i) for s, i in lists)
        return head + body + b"\0" * 8
    put("token_cache", "one", cache(1, [([0, 2], [5, 999]), ([0, 1], [3]), ([0, 0], [])], 1000))
    put("token_cache", "two", cache(2, [([0, 1, 2], [5, 9]), ([0, 0, 0], []), ([0, 1, 1], [0])], 10))
    put("token_cache", "lies", cache(2**60, [([0, 2**40], [5, -1]), ([3, 1], [3]), ([0, 0], [])], 1000))


def teacher():
    # The target puts what follows the header behind a right one, and makes the head of the first chunk right.
    chunk = b"LWCHUNK\0" + struct.pack("<QqQ", 7, 0, 1) + struct.pack("<Q", 2) + struct.pack("<6f", *range(6))
    put("teacher", "chunk", chunk)
    put("teacher", "two", chunk.ljust(4096, b"\0") + b"LWCHUNK\0" + struct.pack("<QqQ", 7, 1, 1) + b"\1" * 40)
    put("teacher", "header", b"LWTEACH\0" + struct.pack("<IIQQQqqqqqq", 0x01020304, 1, 7, 1, 2, 0, 3, 2, 3, 4, 1))


def bert_config():
    for path in sorted((TREE / "tests/parity/bert").glob("*/config.json")):
        put("bert_config", path.parent.name, path.read_bytes())


def wire_file():
    def wire(rows, z_start, items, data, dtype, width, **metadata):
        said = {"lwmpi_wire": "1", "bits": "16", "d_z": "2", "compress": "prompt", "encoder": "0123456789abcdef",
                "items": json.dumps(items), **metadata}
        starts = struct.pack(f"<{len(z_start)}i", *z_start)
        return tensors({"__metadata__": said, "latents": entry(dtype, [rows, width], 0, len(data)),
                        "z_start": entry("I32", [len(z_start)], len(data), len(data) + len(starts))}, data + starts)

    items = [{"id": "a", "question": "Who?"}, {"id": "b"}]
    put("wire_file", "half", wire(3, [0, 1, 3], items, struct.pack("<6e", *range(6)), "F16", 2))
    put("wire_file", "float", wire(1, [0, 1], items[:1], struct.pack("<2f", 1, 2), "F32", 2, bits="32", compress="context"))
    put("wire_file", "bytes", wire(1, [0, 1], items[:1], b"\x00\x3c\x12", "U8", 3, bits="4"))
    put("wire_file", "none", wire(0, [0], [], b"", "F16", 2))
    put("wire_file", "lies", wire(3, [0, 4, 3], items, struct.pack("<6e", *range(6)), "F16", 2))
    put("wire_file", "twice", wire(3, [0, 1, 3], [items[1]] * 2, struct.pack("<6e", *range(6)), "F16", 2))


def calibration():
    folder = TREE / "runs/calibration"
    record = next(iter(sorted(folder.glob("*.json"))), None)
    if record is None:
        print("calibration: no record in runs/calibration; run lwmpi bench first to renew this seed")
        return
    value = json.loads(record.read_text())
    value["build"] = "this"
    value["device"] = "Example CPU"
    value["commit"] = ""
    put("calibration", "record", json.dumps(value, indent=1).encode())


if __name__ == "__main__":
    for make in [safetensors, index, tokenizer, encode, lines, pattern, rows, config, hf_config, manifest, token_cache, teacher,
                 bert_config, wire_file, calibration]:
        make()
