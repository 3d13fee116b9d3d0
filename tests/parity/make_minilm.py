#!/usr/bin/env python3
"""What Hugging Face makes of all-MiniLM-L6-v2: the files of minilm/, which test_bert_real.c compares with.

    python3 configs/smollm2/prepare.py models
    python3 tests/parity/make_minilm.py models/all-MiniLM-L6-v2

minilm/reference.safetensors   last hidden states of TEXTS, by transformers (as make_bert.py writes them)
minilm/ids.golden              ids of tokenizer/texts.jsonl, by tokenizers (as tokenizer/make_goldens.py writes them)
"""
import json
import os
import sys

from tokenizers import Tokenizer
from transformers import BertModel

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "tokenizer"))
from make_bert import reference  # noqa: E402
from make_goldens import golden  # noqa: E402

TEXTS = [
    "A frozen language model reads thirty-two soft tokens.",
    "Größe 3,5 t — 東京!",
    "x",
    "",
    "Всё хорошо, что хорошо кончается.",
    "The Panthers defense gave up just 308 points, ranking sixth in the league, while also leading the NFL in "
    "interceptions with 24 and boasting four Pro Bowl selections.",
]


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = os.path.join(HERE, "minilm")
    os.makedirs(folder, exist_ok=True)
    tokenizer = Tokenizer.from_file(os.path.join(sys.argv[1], "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    with open(os.path.join(HERE, "tokenizer", "texts.jsonl"), encoding="utf-8") as file:
        golden(os.path.join(folder, "ids.golden"), tokenizer, [json.loads(line)["text"] for line in file])
    tokenizer.encode_special_tokens = False
    model = BertModel.from_pretrained(sys.argv[1], attn_implementation="eager", add_pooling_layer=False)
    reference(os.path.join(folder, "reference.safetensors"), model, [tokenizer.encode(text).ids for text in TEXTS])


if __name__ == "__main__":
    main()
