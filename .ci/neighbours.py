#!/usr/bin/env python3
"""Data-set mining beside a search for neighbours: FAISS, IndexFlatL2, the nearest 100 of every anchor, then the
semi-hard band among those. The same vectors, two cores. Prints times, their ratio, and for how many anchors the nearest
100 hold a semi-hard negative of a pair that Tercet has found one for.

usage: neighbours.py TERCET ROWS
"""

import json
import os
import subprocess
import sys
import tempfile
import time

os.environ["OMP_NUM_THREADS"] = "2"
import faiss
import numpy as np
import pyarrow as pa
import pyarrow.ipc

DIM, CLASS, NOISE, K = 128, 100, 0.6, 100


def vectors(rows):
    gen = np.random.default_rng(1)
    centres = gen.standard_normal((rows // CLASS, DIM))
    labels = np.repeat(np.arange(rows // CLASS), CLASS)
    x = centres[labels] + NOISE * gen.standard_normal((len(labels), DIM))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels.astype(np.int64)


def margin(x, labels, share):
    gen = np.random.default_rng(2)
    gaps, total = [], 0
    for a in gen.integers(0, len(x), 300):
        p = a // CLASS * CLASS + (a + 1) % CLASS
        others = gen.integers(0, len(x), 500)
        others = others[labels[others] != labels[a]]
        gap = ((x[others] - x[a]) ** 2).sum(1) - ((x[p] - x[a]) ** 2).sum()
        gaps.append(gap[gap > 0])
        total += len(gap)
    return float(np.sort(np.concatenate(gaps))[int(share * total)])


def main():
    tercet, rows = sys.argv[1], int(sys.argv[2])
    x, labels = vectors(rows)
    m = margin(x, labels, 0.05)
    with tempfile.TemporaryDirectory() as folder:
        data, out = os.path.join(folder, "vectors.arrow"), os.path.join(folder, "triplets.arrow")
        table = pa.table({
            "label": labels,
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), DIM),
        })
        with pa.OSFile(data, "wb") as f, pa.ipc.new_file(f, table.schema) as w:
            w.write_table(table)
        summary = json.loads(subprocess.run(
            [tercet, "mine", data, "-o", out, "--margin", repr(m), "--json", "--workers", "2", "--log-level", "error"],
            check=True, stdout=subprocess.PIPE).stdout)
        mining = sum(s["seconds"] for s in summary["stages"] if s["name"] == "mine") / 2
        mined = pa.ipc.open_file(pa.memory_map(out)).read_all()
        anchors, positives = mined["anchor"].to_numpy(), mined["positive"].to_numpy()

    index = faiss.IndexFlatL2(DIM)
    index.add(x)
    some = min(rows, 8192)
    start = time.perf_counter()
    d, i = index.search(x[:some], K)
    inside = labels[i] != labels[:some, None]
    search = (time.perf_counter() - start) * rows / some
    first = anchors < some
    anchors, positives = anchors[first], positives[first]
    ap = ((x[anchors] - x[positives]) ** 2).sum(1)
    band = inside[anchors] & (d[anchors] > ap[:, None]) & (d[anchors] < ap[:, None] + m)
    found = band.any(1).mean()
    print(f"{rows} rows of {DIM}, margin {m:.4f}: tercet {mining:.1f} s, faiss {faiss.__version__} {search:.1f} s "
          f"(from {some} anchors): {search / mining:.1f} times; its nearest {K} hold a semi-hard negative for {100 * found:.0f} % of the pairs")
    return 0 if search >= 4 * mining else 1


if __name__ == "__main__":
    sys.exit(main())
