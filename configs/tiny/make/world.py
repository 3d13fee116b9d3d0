# SPDX-License-Identifier: Apache-2.0
"""The little world of configs/tiny: who and what there is, how facts are said and asked, what is held out.

A fact is a triple (relation, entity, value). One triple in eight is held out: contexts of eval.jsonl are made of
held-out triples only; train.jsonl and every text the frozen models are trained on use the other triples only."""
import random

PEOPLE = ("Adam Alice Amber Boris Carla Cora David Dora Elena Emil Felix Fiona Greta Hanna Henry Hugo Irene Jack Jonas "
          "Karl Laura Leo Lucy Maria Marta Nadia Noah Olga Oscar Paula Peter Quinn Rosa Simon Tara Tim Ursula Victor "
          "Wendy Zoe").split()
THINGS = ("ball book bottle box brush candle clock cup drum fork glove hammer hat kite knife ladder lamp letter map "
          "mirror needle pencil phone plate radio ring rope saw shirt shoe spoon stamp ticket towel toy umbrella vase "
          "wallet watch whistle").split()

# relation: entities, values, ways to state it, ways to ask it
RELATIONS = {
    "home": (PEOPLE, "Athens Berlin Cairo Dublin Geneva Havana Lima London Madrid Milan Moscow Nairobi Oslo Paris "
                     "Prague Rome Sydney Tokyo Vienna Zurich".split(),
             ["{e} lives in {v}.", "{e} has a home in {v}."],
             ["Where does {e} live?", "In which city does {e} live?"]),
    "job": (PEOPLE, "baker barber butcher carpenter dancer dentist doctor farmer fisherman judge lawyer nurse painter "
                    "pilot plumber poet sailor singer tailor teacher".split(),
            ["{e} works as a {v}.", "{e} is a {v}."],
            ["What is the job of {e}?", "What does {e} do?"]),
    "pet": (PEOPLE, "canary cat crab dog duck ferret fish frog goat hamster hen horse lizard mouse parrot pig rabbit "
                    "snake spider turtle".split(),
            ["{e} keeps a {v}.", "{e} has a pet {v}."],
            ["Which pet does {e} have?", "What animal does {e} keep?"]),
    "colour": (THINGS, "amber beige black blue bronze brown crimson cyan gold green grey ivory lilac olive pink purple "
                       "red silver white yellow".split(),
               ["The {e} is {v}.", "The colour of the {e} is {v}."],
               ["What colour is the {e}?", "Which colour does the {e} have?"]),
    "place": (THINGS, "attic barn basement bathroom bedroom cabin car cellar closet cupboard drawer garage garden "
                      "hallway kitchen library office pantry tent tower".split(),
              ["The {e} is in the {v}.", "You can find the {e} in the {v}."],
              ["Where is the {e}?", "In which place is the {e}?"]),
}
NAMES = list(RELATIONS)


def held_out(rel, entity, value):
    """Every entity and every value loses the same share of its triples."""
    ents, vals = RELATIONS[rel][:2]
    return (3 * ents.index(entity) + 5 * vals.index(value) + NAMES.index(rel)) % 8 == 0


def draw_value(rng, rel, entity, evaluation, taken):
    while True:
        v = rng.choice(RELATIONS[rel][1])
        if held_out(rel, entity, v) == evaluation and v not in taken:
            return v


def make_facts(rng, evaluation, n_same, n_other):
    """n_same facts of one relation (different entities, different values) and n_other of others, in random order."""
    rel = rng.choice(NAMES)
    ents = rng.sample(RELATIONS[rel][0], n_same)
    facts, taken = [], set()
    for e in ents:
        v = draw_value(rng, rel, e, evaluation, taken)
        taken.add(v)
        facts.append((rel, e, v))
    for other in rng.sample([r for r in NAMES if r != rel], n_other):
        pool = RELATIONS[other][0]
        e = rng.choice(ents) if ents[0] in pool and rng.random() < 0.5 else rng.choice(pool)
        facts.append((other, e, draw_value(rng, other, e, evaluation, ())))
    rng.shuffle(facts)
    return rel, facts


def state(rng, fact):
    return rng.choice(RELATIONS[fact[0]][2]).format(e=fact[1], v=fact[2])


def ask(rng, fact):
    return rng.choice(RELATIONS[fact[0]][3]).format(e=fact[1])


def make_row(rng, evaluation):
    """One row of train.jsonl or eval.jsonl: three facts of different relations, one of them asked."""
    rel, facts = make_facts(rng, evaluation, 1, 2)
    asked = rng.choice([f for f in facts if f[0] == rel])
    return {"context": " ".join(state(rng, f) for f in facts), "question": ask(rng, asked), "answers": [asked[2]]}
