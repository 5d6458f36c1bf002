#!/usr/bin/env python3
"""Judges the history of a randomised run, which knows nothing of the oracle in Rust.

    check_history.py FILE     one JSON object per line

Each line says one thing:
    {"is": "attempt", "pipeline": P, "key": K, "fate": "row" or "dead", "identity": I or null}
    {"is": "ack",     "pipeline": P, "key": K, "sequence": N}
    {"is": "row",     "pipeline": P, "key": K, "identity": I}
    {"is": "dead",    "pipeline": P, "key": K, "identity": I}
    {"is": "view",    "pipeline": P}
    {"is": "viewed",  "pipeline": P, "key": K, "identity": I}

Every event that was acknowledged has to be once where its fate says, and nothing else has to be
anywhere: no second row, no row beside a dead letter, nothing that nobody published. Of an identity
there are as many rows as events were attempted with it; of two dead letters with one identity the
second has another name. Where there is a view, it has the keys of the rows. The end is 0 when all
of that holds, 1 when it does not, 2 when the file is no history.
"""

import json
import sys
from collections import Counter

EXAMPLES_MAX = 10


class Pipeline:
    """What is said of one pipeline."""

    def __init__(self):
        self.fates = {}
        self.expected = {}
        self.acknowledged = {}
        self.found = {"row": Counter(), "dead": Counter()}
        self.identities = {"row": {}, "dead": {}}
        self.viewed = None

    def take(self, line):
        if line["is"] == "view":
            self.viewed = set()
            return
        kind, key = line["is"], line["key"]
        if kind == "attempt":
            if line["fate"] not in self.found:
                raise ValueError(f"no such fate: {line['fate']!r}")
            self.fates[key] = line["fate"]
            self.expected[key] = line["identity"]
        elif kind == "ack":
            self.acknowledged.setdefault(key, int(line["sequence"]))
        elif kind in self.found:
            self.found[kind][key] += 1
            self.identities[kind].setdefault(line["identity"], []).append(key)
        elif kind == "viewed":
            self.viewed.add(key)
        else:
            raise ValueError(f"nothing is called {kind!r}")

    def violations(self):
        for key in self.acknowledged:
            if key not in self.fates:
                yield f"acknowledged and never attempted: {key}"
        for kind, keys in self.found.items():
            for key, times in keys.items():
                if key not in self.fates:
                    yield f"alien: nobody published {key}, which is a {kind}"
                elif self.fates[key] != kind:
                    yield f"misplaced: {key} is a {kind} and should be a {self.fates[key]}"
                if times > 1:
                    yield f"doubled: {key} is {times} times a {kind}"
        for key in self.found["row"].keys() & self.found["dead"].keys():
            yield f"in both places: {key}"
        for key, fate in self.fates.items():
            if key in self.acknowledged and key not in self.found[fate]:
                yield f"lost: {key}, accepted as {self.acknowledged[key]}, is no {fate}"
        attempts = Counter(self.expected.values())
        for kind, identities in self.identities.items():
            for identity, keys in identities.items():
                if len(keys) > max(1, attempts[identity]):
                    yield f"one identity for several: {identity} is {len(keys)} times a {kind}"
                for key in keys:
                    expected = self.expected.get(key)
                    beside = kind == "dead" and attempts[expected] > 1
                    if expected not in (None, identity) and not beside:
                        yield f"another identity: the {kind} of {key} has {identity}"
        if self.viewed is not None:
            for key in self.found["row"].keys() - self.viewed:
                yield f"unseen: {key} is a row and not in the view"
            for key in self.viewed - self.found["row"].keys():
                yield f"seen alone: {key} is in the view and no row"


def read(lines):
    pipelines = {}
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            pipelines.setdefault(line["pipeline"], Pipeline()).take(line)
        except (ValueError, KeyError, TypeError) as err:
            raise NoHistory(f"line {number} is not of a history: {err!r}") from err
    return pipelines


class NoHistory(Exception):
    """The file cannot be judged."""


def main(path):
    with open(path, encoding="utf-8") as lines:
        pipelines = read(lines)
    if not any(pipeline.acknowledged for pipeline in pipelines.values()):
        raise NoHistory("nothing was ever acknowledged")
    total = 0
    for name, pipeline in sorted(pipelines.items()):
        rows, dead = (sum(pipeline.found[kind].values()) for kind in ("row", "dead"))
        print(
            f"{name}: {len(pipeline.fates)} attempted, {len(pipeline.acknowledged)} acknowledged, "
            f"{rows} rows, {dead} dead letters"
        )
        for violation in pipeline.violations():
            total += 1
            if total <= EXAMPLES_MAX:
                print(f"  {violation}")
    print("sound" if total == 0 else f"NOT sound: {total} violations")
    return 0 if total == 0 else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        sys.exit(main(sys.argv[1]))
    except (OSError, NoHistory) as err:
        print(f"check_history: {err}", file=sys.stderr)
        sys.exit(2)
