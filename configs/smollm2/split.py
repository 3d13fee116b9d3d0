#!/usr/bin/env python3
"""A file in SQuAD's layout as two, split by paragraph: no text of one is in the other.

    python3 configs/smollm2/split.py xquad.en.json data      # data/train.json, data/eval.json

The last paragraph of every article goes to eval.json (of XQuAD English 48 of 240, with 217 of 1190 questions).
"""
import json
import pathlib
import sys


def part(articles, choose):
    return {"version": "1.1", "data": [{**a, "paragraphs": choose(a["paragraphs"])} for a in articles]}


def main():
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    articles = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))["data"]
    out = pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for name, choose in (("train", lambda p: p[:-1]), ("eval", lambda p: p[-1:])):
        text = json.dumps(part(articles, choose), ensure_ascii=False)
        (out / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        paragraphs = [p for a in articles for p in choose(a["paragraphs"])]
        print(f"{out / name}.json: {len(paragraphs)} paragraphs, {sum(len(p['qas']) for p in paragraphs)} questions")


if __name__ == "__main__":
    main()
