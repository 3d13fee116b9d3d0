# SPDX-License-Identifier: Apache-2.0
"""Token F1 as SQuAD defines it: lower case, no punctuation, no articles."""
import collections
import re
import string


def words(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def token_f1(prediction, answers):
    best = 0.0
    for a in answers:
        p, t = words(prediction), words(a)
        same = sum((collections.Counter(p) & collections.Counter(t)).values())
        best = max(best, 2 * same / (len(p) + len(t)) if same else float(p == t))
    return best
