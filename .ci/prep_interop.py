#!/usr/bin/env python3
"""Prepare data sets with tercet and read them with readers that are not ours.

usage: prep_interop.py TERCET GLYPHS [DATA]

TERCET is the command, GLYPHS a folder of Parquet shards in the Hugging Face
layout, from which sources of the other kinds are made, and DATA a folder with
the sets mnist-t10k, omniglot-small1 and sign-digits, which are prepared as well
where it is there. The rows of a prepared set have to be those of its source:
the same classes, in each the same pictures, in lossless encodings to the pixel.
Exit code 1 when anything is wrong.
"""

import collections
import csv
import glob
import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
scratch = tempfile.TemporaryDirectory()
os.environ["HF_HOME"] = os.path.join(scratch.name, "hf")

import datasets
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from PIL import Image, ImageOps

datasets.disable_progress_bars()
checked = wrong = 0


def check(what, good, detail=""):
    global checked, wrong
    checked += 1
    if not good:
        wrong += 1
        print(f"WRONG  {what} {detail}"[:500])


def pixels(image):
    """A picture as what it shows, in one form."""
    rgb = image.convert("RGB")
    return hashlib.sha256(repr(rgb.size).encode() + rgb.tobytes()).hexdigest()


def decoded(data):
    return pixels(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))  # as datasets shows it


# Sources, each as a list of (class name, digest of pixels).

def of_parquet(paths):
    rows = []
    for path in paths:
        table = pq.read_table(path)
        names = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
        for image, label in zip(table["image"].to_pylist(), table["label"].to_pylist()):
            rows.append((names[label], decoded(image["bytes"]), image["bytes"]))
    return rows


def of_zip(path):
    rows = []
    with zipfile.ZipFile(path) as z:
        for name in z.namelist():
            if name.endswith(".png"):
                data = z.read(name)
                rows.append(("/".join(name.split("/")[-3:-1]), decoded(data), data))
    return rows


def of_idx(images, labels):
    def read(path, magic, dims):
        data = gzip.open(path).read()
        head = struct.unpack(f">{1 + dims}I", data[: 4 + 4 * dims])
        assert head[0] == magic
        return np.frombuffer(data, np.uint8, offset=4 + 4 * dims).reshape(head[1:])
    return [(str(label), pixels(Image.fromarray(image)), None) for image, label in zip(read(images, 0x803, 3), read(labels, 0x801, 1))]


# Prepared sets.

def prep(tercet, sources, out, *flags):
    text = subprocess.run([tercet, "prep", *sources, "-o", out, "--json", *flags], check=True, stdout=subprocess.PIPE).stdout
    return json.loads(text)


def check_manifest(name, out):
    """Every byte is under a digest of the manifest."""
    text = open(os.path.join(out, "tercet-manifest.json"), "rb").read()
    m = json.loads(text)
    head, tail = text[:-78], text[-78:]
    check(f"{name}: digest of the manifest", tail == b',"sha256":"' + hashlib.sha256(head).hexdigest().encode() + b'"}\n', tail)
    for shard in m["shards"]:
        data = open(os.path.join(out, shard["path"]), "rb").read()
        at = 0
        for group in shard["groups"]:
            check(f"{name}: digest of a row group", hashlib.sha256(data[at:group["end"]]).hexdigest() == group["sha256"], shard["path"])
            at = group["end"]
        check(f"{name}: digest of a footer", hashlib.sha256(data[at:]).hexdigest() == shard["tail_sha256"] and len(data) == shard["size"], shard["path"])
    data = open(os.path.join(out, m["labels"]["path"]), "rb").read()
    check(f"{name}: digest of the labels", hashlib.sha256(data).hexdigest() == m["labels"]["sha256"])
    labels = np.frombuffer(data, "<i4")[: m["rows"]]
    for number, c in enumerate(m["classes"]):
        check(f"{name}: rows of class {c['name']}", int((labels == number).sum()) == c["rows"])
    return m, [m["classes"][n]["name"] if n >= 0 else None for n in labels]


def read_tables(out, m):
    tables = []
    for shard in m["shards"]:
        path = os.path.join(out, shard["path"])
        tables.append(pq.read_table(path) if m["format"] == "parquet" else pa.ipc.open_file(pa.memory_map(path)).read_all())
    for t in tables:
        t.validate(full=True)
    return pa.concat_tables(tables)


def check_set(name, out, want, kept=False, lossless=True, raw=False):
    m, labels = check_manifest(name, out)
    files = [os.path.join(out, s["path"]) for s in m["shards"]]
    check(f"{name}: rows", m["rows"] == len(want), f"{m['rows']}, want {len(want)}")
    counts = collections.Counter(c for c, *_ in want)
    check(f"{name}: rows of each class", {c["name"]: c["rows"] for c in m["classes"]} == dict(counts))

    table = read_tables(out, m)
    names = [c["name"] for c in m["classes"]]
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    check(f"{name}: class names", features["label"] == {"_type": "ClassLabel", "names": names}, features["label"])
    check(f"{name}: labels are those of labels.bin", [names[l] for l in table["label"].to_pylist()] == labels)
    if raw:
        meta = json.loads(table.schema.metadata[b"tercet.pixels"])
        check(f"{name}: raw pixels are fixed-size binary", pa.types.is_fixed_size_binary(table.schema.field("image").type), table.schema)
        images = [pixels(Image.fromarray(np.frombuffer(b, np.uint8).reshape(meta["shape"]))) for b in table["image"].to_pylist()]
    else:
        check(f"{name}: image is struct<bytes, path>", table.schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        stored = [i["bytes"] for i in table["image"].to_pylist()]
        if kept:
            check(f"{name}: images are kept", sorted(zip(labels, stored)) == sorted((c, b) for c, _, b in want))
        images = [decoded(b) for b in stored]
    if lossless:
        check(f"{name}: pixels", sorted(zip(labels, images)) == sorted((c, p) for c, p, _ in want))

    if m["format"] == "parquet":
        rows = duckdb.sql(f"select label, count(*) from read_parquet({files!r}) group by label").fetchall()
        check(f"{name}: DuckDB counts", {names[l]: n for l, n in rows} == dict(counts), rows)
    if raw:
        print(f"{name}: {m['rows']} rows, {len(names)} classes")
        return
    ds = datasets.load_dataset(m["format"], data_files=files, split="train")
    check(f"{name}: datasets has an image and class names", isinstance(ds.features["image"], datasets.Image) and ds.features["label"].names == names, ds.features)
    check(f"{name}: datasets has all rows", len(ds) == len(want))
    shown = [(ds.features["label"].int2str(row["label"]), pixels(row["image"])) for row in ds]
    check(f"{name}: datasets shows the images", [p for _, p in shown] == images and [c for c, _ in shown] == labels)
    by_name = datasets.load_dataset(out) if m["format"] == "parquet" else {}
    check(f"{name}: datasets finds the split in the folder", m["format"] != "parquet" or [*by_name] == [m["split"]] and len(by_name[m["split"]]) == len(want), by_name)
    print(f"{name}: {m['rows']} rows, {len(names)} classes")


def check_source(tercet, name, sources, want, encoded, *flags):
    top = os.path.join(scratch.name, name)
    os.mkdir(top)
    prep(tercet, sources, f"{top}/set", *flags)
    check_set(f"{name}, keep", f"{top}/set", want, kept=encoded)
    prep(tercet, sources, f"{top}/again", "--workers", "1", *flags)
    check(f"{name}: the same bytes on one worker", subprocess.run(["diff", "-r", f"{top}/set", f"{top}/again"]).returncode == 0)
    return top


def made_sources(rows, top):
    """The same rows as a folder, a tar and a list, made here."""
    folder, tar, lines = f"{top}/folder", f"{top}/samples.tar", f"{top}/list.csv"
    names = sorted({c for c, *_ in rows})
    with tarfile.open(tar, "w") as t, open(lines, "w", newline="") as l:
        out = csv.writer(l)
        out.writerow(["path", "label"])
        for i, (c, _, data) in enumerate(rows):
            path = f"folder/{names.index(c):02d}{c}/{i:04d}.png"
            os.makedirs(f"{top}/{os.path.dirname(path)}", exist_ok=True)
            with open(f"{top}/{path}", "wb") as f:
                f.write(data)
            out.writerow([path, c])
            for ending, member in ((".png", data), (".cls", str(names.index(c)).encode())):
                info = tarfile.TarInfo(f"{i:06d}{ending}")
                info.size = len(member)
                t.addfile(info, io.BytesIO(member))
    return [
        ("folder", [folder], [(f"{names.index(c):02d}{c}", p, b) for c, p, b in rows]),
        ("tar", [tar], [(str(names.index(c)), p, b) for c, p, b in rows]),
        ("list", [lines], rows),
    ]


def main():
    tercet, glyphs = os.path.abspath(sys.argv[1]), sys.argv[2]
    data = sys.argv[3] if len(sys.argv) > 3 else ""
    rows = of_parquet(sorted(glob.glob(f"{glyphs}/*.parquet")))
    top = check_source(tercet, "glyphs", [glyphs], rows, True, "--shard-size", "200KiB", "--row-group", "50KiB")
    for name, flags in {
        "arrow": ["--format", "arrow"], "png": ["--encode", "png"], "raw": ["--encode", "raw"],
        "raw.arrow": ["--encode", "raw", "--format", "arrow"], "rgb": ["--encode", "raw", "--size", "32x32x3"],
        "jpeg": ["--encode", "jpeg:90", "--size", "20x24"],
    }.items():
        prep(tercet, [glyphs], f"{top}/{name}", *flags)
        check_set(f"glyphs, {name}", f"{top}/{name}", rows, kept=name == "arrow", lossless=name != "jpeg", raw="raw" in flags)
    for name, sources, want in made_sources(rows, top):
        check_source(tercet, name, sources, want, True)
    sets = 0
    if os.path.isdir(f"{data}/mnist-t10k"):
        mnist, omniglot, signs = (f"{data}/{s}" for s in ("mnist-t10k", "omniglot-small1", "sign-digits"))
        idx = [f"{mnist}/idx/t10k-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
        zipped = f"{omniglot}/images_background_small1.zip"
        check_source(tercet, "mnist-idx", [f"{mnist}/idx"], of_idx(*idx), False)
        check_source(tercet, "omniglot-zip", [zipped], of_zip(zipped), True)
        for name, folder in (("mnist", mnist), ("omniglot", omniglot), ("sign-digits", signs)):
            source = f"{folder}/parquet"
            check_source(tercet, name, [source], of_parquet(sorted(glob.glob(f"{source}/*.parquet"))), True)
            sets += 1
        sets += 2
    print(f"{checked} checks, {wrong} wrong; {sets} sets of real data" + ("" if sets else f" (none at {data or 'DATA'})"))
    sys.exit(wrong > 0)


main()
