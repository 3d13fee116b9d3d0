# SPDX-License-Identifier: Apache-2.0
"""Writes ../train.jsonl and ../eval.jsonl."""
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


if __name__ == "__main__":
    write(HERE / "train.jsonl", 1, 10000, False)
    write(HERE / "eval.jsonl", 2, 300, True)
