#!/usr/bin/env python3
"""Read what tercet wrote with readers that are not ours, and check every row.

usage: interop.py DIR [DATA]

DIR holds the same triplets as triplets.parquet, triplets.arrow and
triplets.jsonl, the same pairs as pairs.parquet, pairs.arrow and pairs.jsonl
(any of these three may be missing), and embeddings.arrow, the embeddings they
were mined from. DATA is the folder of Parquet shards they were mined from,
whose integer labels are compared as well.

Distances, losses and kinds are computed again in float64, terms added in order,
so that the only difference allowed is the one rounding to float32. Exit code 1
when anything is wrong.
"""

import glob
import json
import os
import sys

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

CHUNK = 1 << 14
KINDS = ["hard", "semi-hard", "easy"]
TRIPLETS = {
    "anchor": "int64", "positive": "int64", "negative": "int64",
    "anchor_label": "int32", "positive_label": "int32", "negative_label": "int32",
    "anchor_path": "string", "positive_path": "string", "negative_path": "string",
    "d_ap": "float", "d_an": "float", "loss": "float",
    "kind": "kind", "generation": "int32", "batch": "int64",
}
PAIRS = {"left": "int64", "right": "int64", "label": "int", "distance": "float", "loss": "float", "batch": "int64"}
OPTIONAL = {"anchor_path", "positive_path", "negative_path", "batch"}

checked = wrong = 0


def check(what, good):
    """Count what holds and what does not; good is a bool or one bool per row."""
    global checked, wrong
    good = np.atleast_1d(np.asarray(good, dtype=bool))
    bad = int((~good).sum())
    checked += good.size
    wrong += bad
    if bad:
        rows = np.flatnonzero(~good)[:5].tolist()
        print(f"WRONG  {what}: {bad} of {good.size}, first at {rows}")
    elif good.size > 1:
        print(f"ok     {what}: {good.size}")


def check_schema(name, schema, want, parquet=None):
    """The columns, in order and of their types."""
    expected = [c for c in want if c not in OPTIONAL or c in schema.names]
    check(f"{name}: columns are {', '.join(expected)}", schema.names == expected)
    paths = [c for c in schema.names if c.endswith("_path")]
    check(f"{name}: all paths or none", len(paths) in (0, 3))
    for c in expected:
        if c not in schema.names:
            continue
        typ, kind = schema.field(c).type, want[c]
        if kind == "kind":
            good = pa.types.is_dictionary(typ) and pa.types.is_string(typ.value_type)
        elif kind == "int":
            good = pa.types.is_integer(typ)
        else:
            good = str(typ) == kind
        check(f"{name}: {c} is {typ}", good)
    if parquet is not None and "kind" in schema.names:
        at = parquet.schema.names.index("kind")
        groups = [parquet.row_group(g).column(at).encodings for g in range(parquet.num_row_groups)]
        check(f"{name}: kind is dictionary-encoded", [any("DICTIONARY" in e for e in g) for g in groups] or True)


def metadata(name, text):
    try:
        meta = json.loads(text)
    except (TypeError, ValueError) as err:
        check(f"{name}: metadata is JSON ({err})", False)
        return {}
    check(f"{name}: metadata is a JSON object", isinstance(meta, dict))
    lacks = [k for k in ("rule", "margin", "distance") if k not in meta]
    check(f"{name}: metadata lacks {lacks}", not lacks)
    return meta


def to_columns(table):
    """A table as numpy arrays by name; strings as objects."""
    columns = {}
    for c in table.column_names:
        col = table[c].combine_chunks()
        check(f"{c} has no null", table[c].null_count == 0)
        if pa.types.is_dictionary(col.type):
            col = col.cast(pa.string())
        columns[c] = col.to_numpy(zero_copy_only=False)
    return columns


def read_parquet(path, want):
    file = pq.ParquetFile(path, read_dictionary=["kind"] if "kind" in want else None)
    check_schema(path, file.schema_arrow, want, file.metadata)
    meta = metadata(path, (file.metadata.metadata or {}).get(b"tercet"))
    return to_columns(file.read()), meta


def read_duckdb(path):
    db = duckdb.connect()
    rows = db.execute("SELECT * FROM read_parquet(?)", [path])
    names = [d[0] for d in rows.description]
    rows = rows.fetchnumpy()
    columns = {c: np.ma.filled(rows[c]) if np.ma.isMaskedArray(rows[c]) else np.asarray(rows[c]) for c in names}
    key = db.execute("SELECT decode(value) FROM parquet_kv_metadata(?) WHERE decode(key) = 'tercet'", [path]).fetchone()
    return columns, metadata(f"{path} (duckdb)", key and key[0])


def read_arrow(path, want):
    with pa.memory_map(path) as file:
        reader = pa.ipc.open_file(file)
        check_schema(path, reader.schema, want)
        meta = metadata(path, (reader.schema.metadata or {}).get(b"tercet"))
        return to_columns(reader.read_all()), meta


def read_jsonl(path, want):
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    meta = metadata(path, rows[0].pop("tercet", None) if rows else None)
    rows = [r for r in rows if r]  # a file without rows is its metadata alone
    names = list(rows[0]) if rows else []
    expected = [c for c in want if c not in OPTIONAL or c in names]
    check(f"{path}: members are {', '.join(expected)}", [list(r) == expected for r in rows] or True)
    types = {"int64": np.int64, "int32": np.int32, "int": np.int64, "float": np.float32}
    return {c: np.array([r[c] for r in rows], dtype=types.get(want[c], object)) for c in names}, meta


def core(meta):
    """What the metadata of one content in several formats must agree in."""
    return {k: v for k, v in meta.items() if k != "file_sha256"}


def read_all(folder, stem, want):
    """The rows of every format, which have to agree."""
    first, meta = read_parquet(os.path.join(folder, stem + ".parquet"), want)
    n = len(next(iter(first.values())))
    others = {"duckdb": read_duckdb(os.path.join(folder, stem + ".parquet"))}
    for ending, read in ((".arrow", read_arrow), (".jsonl", read_jsonl)):
        path = os.path.join(folder, stem + ending)
        if stem == "triplets" or os.path.exists(path):
            others[ending] = read(path, want)
    for name, (rows, other) in others.items():
        same = list(rows) == list(first) and all(len(rows[c]) == n for c in rows)
        check(f"{stem}: {name} has the columns and the {n} rows of pyarrow's Parquet", same)
        if same:
            for c in first:
                check(f"{stem}: {name} agrees in {c}", rows[c] == first[c])
        check(f"{stem}: {name} agrees in the metadata", core(other) == core(meta))
    check(f"{stem}: there are rows", n > 0)
    check(f"{stem}: the metadata counts {n} rows", meta.get("file_rows", n) == n)
    return first, meta, n


def read_embeddings(path):
    with pa.memory_map(path) as file:
        table = pa.ipc.open_file(file).read_all()
    check(f"{path}: columns are id, embedding", table.column_names == ["id", "embedding"])
    typ = table.schema.field("embedding").type
    good = pa.types.is_fixed_size_list(typ) and pa.types.is_float32(typ.value_type)
    check(f"{path}: id is int64, embedding is {typ}", table.schema.field("id").type == pa.int64() and good)
    ids = table["id"].to_numpy()
    check(f"{path}: ids count from 0", ids == np.arange(len(ids)))
    emb = np.concatenate([c.flatten().to_numpy() for c in table["embedding"].chunks]).reshape(-1, typ.list_size)
    check(f"{path}: all values are finite", np.isfinite(emb).all(axis=1))
    return emb


def distances(emb, a, b, name):
    """float64, each product rounded, terms added in order: what cumsum does."""
    out = np.empty(len(a))
    for at in range(0, len(a), CHUNK):
        x = emb[a[at:at + CHUNK]].astype(np.float64)
        y = emb[b[at:at + CHUNK]].astype(np.float64)
        terms = x * y if name == "cosine" else (x - y) ** 2
        out[at:at + CHUNK] = np.cumsum(terms, axis=1)[:, -1]
    if name == "cosine":
        return 1 - out
    return np.sqrt(out) if name == "euclidean" else out


def check_triplets(rows, meta, n, emb, labels):
    a, p, neg = rows["anchor"], rows["positive"], rows["negative"]
    ids = np.concatenate([a, p, neg])
    check("triplets: ids are rows of the embeddings", (ids >= 0) & (ids < len(emb)))
    check("triplets: anchor and positive are two images", a != p)
    check("triplets: anchor and positive have one known label", (rows["anchor_label"] == rows["positive_label"]) & (rows["anchor_label"] >= 0))
    check("triplets: the negative has another known label", (rows["negative_label"] != rows["anchor_label"]) & (rows["negative_label"] >= 0))
    said = np.concatenate([rows[f"{c}_label"] for c in ("anchor", "positive", "negative")])
    by_id = np.full(len(emb), -1, dtype=said.dtype)
    by_id[ids] = said
    check("triplets: an image has one label", by_id[ids] == said)
    if labels is not None:
        check("triplets: the labels are those of the data set", labels[ids] == said)
    keys = list(zip(rows.get("batch", np.zeros(n, np.int64)).tolist(), a.tolist(), p.tolist()))
    check("triplets: sorted by (batch,) anchor and positive", [x <= y for x, y in zip(keys, keys[1:])] or True)

    margin, name = meta["margin"], meta["distance"]
    ap, an = distances(emb, a, p, name), distances(emb, a, neg, name)
    edge = ap + margin
    check(f"triplets: d_ap is the {name} distance", ap.astype(np.float32) == rows["d_ap"])
    check(f"triplets: d_an is the {name} distance", an.astype(np.float32) == rows["d_an"])
    if meta["rule"] == "semi-hard":
        check(f"triplets: d_ap < d_an < d_ap + {margin}", (ap < an) & (an < edge))
    check("triplets: loss is max(0, d_ap + margin − d_an)", np.maximum(0, edge - an).astype(np.float32) == rows["loss"])
    kinds = np.where(an <= ap, KINDS[0], np.where(an < edge, KINDS[1], KINDS[2]))
    check("triplets: kind is that of the distances", kinds == rows["kind"].astype(str))


def check_pairs(rows, meta, n, emb, labels, triplets):
    left, right, label = rows["left"], rows["right"], rows["label"]
    ids = np.concatenate([left, right])
    check("pairs: ids are rows of the embeddings", (ids >= 0) & (ids < len(emb)))
    check("pairs: left and right are two images", left != right)
    check("pairs: label is 0 or 1", (label == 0) | (label == 1))
    if labels is not None:
        check("pairs: label is 0 for one class and 1 for two", (labels[left] != labels[right]) == (label == 1))
    keys = list(zip(rows.get("batch", np.zeros(n, np.int64)).tolist(), left.tolist(), label.tolist(), right.tolist()))
    check("pairs: sorted by (batch,) left, label, right, each once", [x < y for x, y in zip(keys, keys[1:])] or True)
    d = distances(emb, left, right, meta["distance"])
    check(f"pairs: distance is the {meta['distance']} distance", d.astype(np.float32) == rows["distance"])
    check("pairs: the metadata gives the label's convention", meta.get("pair_labels") == "0 same, 1 different")
    check("pairs: the metadata gives the margin of the pairs", meta.get("pair_margin", 0) > 0)

    if "pair_margin" not in meta:
        return
    # The pair's loss is Euclidean with a margin of its own, of the distance as it stands in the file, on unit rows.
    said = rows["distance"].astype(np.float64)
    euclidean = {"euclidean": said, "sqeuclidean": np.sqrt(np.maximum(said, 0)), "cosine": np.sqrt(np.maximum(2 * said, 0))}[meta["distance"]]
    short = np.maximum(0, meta["pair_margin"] - euclidean)
    loss = 0.5 * np.where(label == 1, short * short, euclidean * euclidean)
    check("pairs: loss is the contrastive loss of the pair", np.abs(loss - rows["loss"]) <= 2**-24 * loss + 1e-15)
    if "batch" not in rows:
        mined = {(a, p, 0) for a, p in zip(triplets["anchor"].tolist(), triplets["positive"].tolist())}
        mined |= {(a, q, 1) for a, q in zip(triplets["anchor"].tolist(), triplets["negative"].tolist())}
        have = set(zip(left.tolist(), right.tolist(), label.tolist()))
        check("pairs: those of every mined triplet are there", [m in have for m in sorted(mined)])


def read_labels(data):
    """The integer labels of a folder of Parquet shards in name order; None where there are none."""
    shards = sorted(glob.glob(os.path.join(data, "**", "*.parquet"), recursive=True))
    columns = [pq.read_table(s, columns=["label"])["label"] for s in shards if "label" in pq.read_schema(s).names]
    if not columns or not all(pa.types.is_integer(c.type) for c in columns):
        return None
    return np.concatenate([c.fill_null(-1).to_numpy() for c in columns])


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    folder = sys.argv[1]
    labels = read_labels(sys.argv[2]) if len(sys.argv) == 3 else None
    print(f"pyarrow {pa.__version__}, duckdb {duckdb.__version__}, numpy {np.__version__}")
    emb = read_embeddings(os.path.join(folder, "embeddings.arrow"))
    if labels is not None:
        check("the data set has a label for every embedding", len(labels) == len(emb))
    rows, meta, n = read_all(folder, "triplets", TRIPLETS)
    if not wrong:  # what follows takes the columns and the metadata for granted
        check_triplets(rows, meta, n, emb, labels)
    triplets = rows
    if os.path.exists(os.path.join(folder, "pairs.parquet")):
        rows, meta, m = read_all(folder, "pairs", PAIRS)
        if not wrong:
            check_pairs(rows, meta, m, emb, labels, triplets)
    print(f"{n} triplets, {checked} comparisons, {wrong} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
