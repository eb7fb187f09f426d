#!/usr/bin/env python3
"""Mine small data sets with tercet and by the definition, and compare.

usage: definition.py TERCET

The definition is brute force in float64 over the rows that --save-embeddings
gives, which are full of ties and of distances exactly on the edges of bands.
Exit code 1 when anything differs.
"""

import concurrent.futures
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

RULES = ["semi-hard", "hard", "vgg", "pml", "tfa", "batch-hard", "batch-all", "all"]
PICKS = ["nearest", "farthest", "window:1-3"]
POSITIVES = ["all", "hardest:2", "easiest:2"]
LISTING = ["pml", "batch-all", "all"]
GUARDS = [{}, {"floor": 1.0}, {"relative": 0.5}, {"skip-ranks": 2}, {"same-group": True}, {"floor": 0.25, "relative": 1.0, "skip-ranks": 1, "same-group": True}]
BATCHES = ["--scope", "batch", "--p", "4", "--k", "5", "--short", "drop", "--batches", "3"]
EXACT = {"sqeuclidean": 1.0, "euclidean": 1.0, "cosine": 0.5}
MARGIN = {"sqeuclidean": 0.2, "euclidean": 0.15, "cosine": 0.1}


class Data:
    """A data set on disk, and the rows that tercet mines from."""

    def __init__(self, tercet, folder, name, rows, labels, rng, margins=MARGIN):
        self.path = os.path.join(folder, name + ".parquet")
        self.name, self.labels, self.margins = name, np.array(labels), margins
        self.groups = np.array([rng.randrange(-1, 4) for _ in labels])
        pq.write_table(pa.table({
            "id": [f"{name}{i}" for i in range(len(labels))],
            "label": pa.array([None if y < 0 and i % 2 else y for i, y in enumerate(labels)], pa.int64()),
            "group": pa.array([None if g < 0 else f"g{g}" for g in self.groups], pa.string()),
            "embedding": pa.array([r.tolist() for r in rows], pa.list_(pa.float32(), rows.shape[1])),
        }), self.path, row_group_size=37)
        saved = os.path.join(folder, name + ".arrow")
        run(tercet, self.path, os.path.join(folder, name + ".jsonl"), "--save-embeddings", saved)
        with pa.memory_map(saved) as file:
            column = pa.ipc.open_file(file).read_all()["embedding"].combine_chunks()
        self.rows = column.flatten().to_numpy().reshape(-1, column.type.list_size).astype(np.float64)
        unit = rows.astype(np.float64) / np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
        assert np.abs(unit - self.rows).max() < 1e-7, "the rows are not normalised"
        x, y = self.rows[:, None, :], self.rows[None, :, :]
        square = np.cumsum((x - y) ** 2, axis=2)[:, :, -1]  # terms added in order
        self.distances = {"sqeuclidean": square, "euclidean": np.sqrt(square), "cosine": 1 - np.cumsum(x * y, axis=2)[:, :, -1]}
        self.batches = [set() for _ in range(3)]  # the same seed gives the same batches, and rule all shows their members
        for r in run(tercet, self.path, os.path.join(folder, name + ".jsonl"), *BATCHES, "--rule", "all", "--positives", "all"):
            self.batches[r["batch"]] |= {r["anchor"], r["positive"], r["negative"]}


def run(tercet, path, out, *flags):
    done = subprocess.run([tercet, "mine", path, "-o", out, "--overwrite", "--log-level", "error", *flags], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"tercet mine {' '.join(flags)}: {done.stderr}")
    with open(out, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [r for r in rows if "anchor" in r]


def interval(rule, ap, an, margin):
    """Which distances to negatives are in the rule's interval for a pair at distance ap."""
    hi = ap + margin
    return {
        "semi-hard": (ap < an) & (an < hi), "hard": an <= ap, "vgg": an < hi, "pml": (ap < an) & (an <= hi),
        "batch-hard": an == an, "batch-all": an < hi, "all": an == an,
    }[rule]


def nearest(d, ids):
    return ids[np.lexsort((ids, d[ids]))]


def farthest(d, ids):
    return ids[np.lexsort((ids, -d[ids]))]


def choose(d, ids, pick):
    """What the pick takes, in its order: ties by the lower id."""
    if pick.startswith("window"):
        first, last = map(int, pick[len("window:"):].split("-"))
        return nearest(d, ids)[first:last + 1]  # ranks count from 0
    return farthest(d, ids) if pick == "farthest" else nearest(d, ids)


def define(data, rule, pick, name, per_pair, positives, guard, members):
    """The triplets of some samples, by anchor, positive and rank; per_pair None lists all."""
    y, group, margin, out = data.labels, data.groups, data.margins[name], []
    members, skip = np.array(sorted(members)), guard.get("skip-ranks", 0)
    for a in members[y[members] >= 0]:
        d = data.distances[name][a]
        same = members[(y[members] == y[a]) & (members != a)]
        if not len(same):
            continue
        other = members[(y[members] >= 0) & (y[members] != y[a])]
        other = other[d[other] >= guard.get("floor", -np.inf)]
        if "relative" in guard:
            other = other[d[other] > (1 + guard["relative"]) * d[same].min()]
        if positives != "all":
            same = np.sort((farthest if positives == "hardest:2" else nearest)(d, same)[:2])
        if rule == "batch-hard":
            same = farthest(d, same)[:1]
        for p in same:
            allowed = other
            if "same-group" in guard:  # −1 is no group
                allowed = other[(group[other] < 0) | ((group[other] != group[a]) & (group[other] != group[p]))]
            if rule == "tfa":  # skipping goes on from the nearest beyond the positive to the last resort, the farthest of the rest
                beyond = nearest(d, allowed[d[allowed] > d[p]])
                taken = beyond[skip:] if len(beyond) > skip else farthest(d, allowed[d[allowed] <= d[p]])[skip - len(beyond):][:1]
            else:
                found = allowed[interval(rule, d[p], d[allowed], margin)]
                taken = choose(d, nearest(d, found)[skip:], pick)
            out += [(int(a), int(p), int(n)) for n in taken[:per_pair]]
    return out


def check(data, name, triplets, rows, what):
    """Compare triplets with the rows of a file, and their numbers."""
    d, margin = data.distances[name], data.margins[name]
    want = []
    for a, p, n in triplets:
        ap, an = d[a, p], d[a, n]
        kind = "hard" if an <= ap else "semi-hard" if an < ap + margin else "easy"
        want.append((a, p, n, np.float32(ap), np.float32(an), np.float32(max(0, ap + margin - an)), kind))
    have = [(r["anchor"], r["positive"], r["negative"], *(np.float32(r[c]) for c in ("d_ap", "d_an", "loss")), r["kind"]) for r in rows]
    if have == want:
        return True
    first = next((h, w) for h, w in itertools.zip_longest(have, want) if h != w)
    print(f"WRONG  {what}: {len(have)} rows, {len(want)} by the definition; first", *first, sep="\n       ")
    return False


def data_sets(tercet, folder):
    """Three sets: distances on the edges of bands, a coarse grid, and rows that nearly coincide."""
    gen, rng = np.random.default_rng(7), random.Random(7)
    units = [s * np.eye(4)[i] for i in range(4) for s in (1, -1)] + [np.array(h) / 2 for h in itertools.product((1, -1), repeat=4)]
    edges = np.array([units[i] for i in gen.integers(len(units), size=70)], np.float32)
    grid = (gen.integers(-4, 5, size=(90, 3)) / 4).astype(np.float32)
    grid[(grid == 0).all(axis=1)] = 1
    near = np.repeat(gen.integers(-4, 5, size=(10, 33)) / 4, 12, axis=0)
    near = (near + gen.integers(-2, 3, size=near.shape) / 4096).astype(np.float32)
    for name, rows, margins in (("edges", edges, EXACT), ("grid", grid, MARGIN), ("near", near, MARGIN)):
        rows[5], rows[17] = rows[3], rows[3]
        labels = [rng.choice([-1, 0, 1, 2, 3, 4, 5]) for _ in rows]
        labels[8], labels[30] = 40, 1000  # classes with one member
        yield Data(tercet, folder, name, rows, labels, rng, margins)


def settings(sets):
    """Every combination of what the definition depends on; data sets and guards take turns. Every third also in batches."""
    at = 0
    for rule, pick, name, per_pair, positives in itertools.product(RULES, PICKS, EXACT, (1, 3), POSITIVES):
        itself = rule in ("tfa", "batch-hard")
        if rule == "vgg" and name != "sqeuclidean" or itself and pick != "nearest" or rule == "batch-hard" and positives != "all":
            continue
        at += 1
        data, guard = sets[at // 3 % len(sets)], GUARDS[at * 5 // 7 % len(GUARDS)]
        yield data, (rule, pick, name, per_pair, positives, guard), False
        if at % 3 == 0 or itself:
            lists = rule in LISTING and pick != "window:1-3" and at % 2
            yield data, (rule, pick, name, None if lists else per_pair, positives, guard), True


def flags_of(data, rule, pick, name, per_pair, positives, guard):
    flags = ["--rule", rule, "--distance", name, "--margin", str(data.margins[name])]
    flags += ["--pick", pick] if rule not in ("tfa", "batch-hard") else []
    flags += ["--positives", positives] if rule != "batch-hard" else []
    flags += ["--per-pair", str(per_pair)] if per_pair else []
    for key, value in guard.items():
        flags.append(f"--guard-{key}" if value is True else f"--guard-{key}={value}")
    return flags


def check_setting(tercet, folder, at, data, setting, batches):
    """Over the data set, or in batches whose members are given; whether it agrees, and how many rows there are."""
    flags = flags_of(data, *setting) + ["--workers", str(1 + at % 3)] + (BATCHES if batches else [])
    rows = run(tercet, data.path, os.path.join(folder, f"{at}.jsonl"), *flags)
    what = f"{data.name} {' '.join(flags)}"
    if not batches:
        return check(data, setting[2], define(data, *setting, range(len(data.labels))), rows, what), len(rows)
    good = [r["batch"] for r in rows] == sorted(r["batch"] for r in rows)
    for b, members in enumerate(batches):
        good &= check(data, setting[2], define(data, *setting, members), [r for r in rows if r["batch"] == b], f"{what}: batch {b}")
    return good, len(rows)


def check_random(tercet, folder, data, seeds):
    """A random pick is in its band, as many as there are, and uniform: over all pairs and seeds, chi-square."""
    per_pair, name = 2, "sqeuclidean"
    bands = {}
    for a, p, n in define(data, "semi-hard", "nearest", name, None, "all", {}, range(len(data.labels))):
        bands.setdefault((a, p), {})[n] = 0
    good, square, degrees = True, 0.0, 0
    for seed in range(seeds):
        flags = ["--margin", str(data.margins[name]), "--positives", "all", "--per-pair", str(per_pair), "--seed", str(seed + 1)]
        found = {}
        for r in run(tercet, data.path, os.path.join(folder, "random.jsonl"), *flags):
            found.setdefault((r["anchor"], r["positive"]), set()).add(r["negative"])
        good = good and found.keys() == bands.keys() and all(s <= bands[b].keys() and len(s) == min(per_pair, len(bands[b])) for b, s in found.items())
        for b, s in found.items():
            for n in s & bands[b].keys():
                bands[b][n] += 1
    for counts in bands.values():
        size, share = len(counts), per_pair / max(per_pair, len(counts))
        if share < 1:  # of k drawn without replacement from size: the counts' variance is seeds·share·(1 − share)
            square += (size - 1) / size * sum((c - seeds * share) ** 2 for c in counts.values()) / (seeds * share * (1 - share))
            degrees += size - 1
    score = (square - degrees) / np.sqrt(2 * degrees)
    print(f"random: {len(bands)} pairs, {seeds} seeds, chi-square {square:.0f} for {degrees} degrees of freedom, {score:+.1f} deviations")
    if not good or abs(score) > 5:
        print("WRONG  random: outside the band, too few, or not uniform")
    return good and abs(score) <= 5


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    tercet = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        sets = list(data_sets(tercet, folder))
        jobs = []
        for at, (data, setting, batch) in enumerate(settings(sets)):
            jobs.append(pool.submit(check_setting, tercet, folder, at, data, setting, data.batches if batch else None))
        done = [job.result() for job in jobs]
        uniform = check_random(tercet, folder, sets[1], 30)
    wrong = sum(not good for good, _ in done)
    print(f"{len(done)} settings, {sum(rows for _, rows in done)} triplets, {wrong} settings differ from the definition")
    sys.exit(1 if wrong or not uniform else 0)


if __name__ == "__main__":
    main()
