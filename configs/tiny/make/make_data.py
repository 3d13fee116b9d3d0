# SPDX-License-Identifier: Apache-2.0
"""Writes ../train.jsonl, ../eval.jsonl, ../long-train.json and ../long-eval.json."""
import json
import pathlib
import random

import world

HERE = pathlib.Path(__file__).resolve().parent.parent


def write(path, seed, n, evaluation):
    rng, seen = random.Random(seed), set()
    with open(path, "w", encoding="utf-8") as out:
        while len(seen) < n:
            row = world.make_row(rng, evaluation)
            key = (row["context"], row["question"])
            if key not in seen:
                seen.add(key)
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_long(path, seed, n, questions, evaluation):
    """SQuAD layout: n contexts of five facts, one of each relation, and questions about some of these."""
    rng, paragraphs = random.Random(seed), {}
    while len(paragraphs) < n:
        _, facts = world.make_facts(rng, evaluation, 1, 4)
        context = " ".join(world.state(rng, f) for f in facts)
        paragraphs.setdefault(context, [
            {"id": f"{len(paragraphs)}-{i}", "question": world.ask(rng, f),
             "answers": [{"text": f[2], "answer_start": context.index(f[2])}]}
            for i, f in enumerate(rng.sample(facts, questions))])
    data = [{"title": "", "paragraphs": [{"context": c, "qas": q} for c, q in paragraphs.items()]}]
    path.write_text(json.dumps({"version": "1.1", "data": data}, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(HERE / "train.jsonl", 1, 10000, False)
    write(HERE / "eval.jsonl", 2, 300, True)
    write_long(HERE / "long-train.json", 3, 4000, 5, False)
    write_long(HERE / "long-eval.json", 4, 300, 1, True)
