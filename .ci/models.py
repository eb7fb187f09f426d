#!/usr/bin/env python3
"""Models: what tercet embeds with them is what ONNX Runtime gives in Python.

models.py TERCET BENCH: the program, built with -tags onnx, which finds the
runtime by TERCET_ONNXRUNTIME; and a file with the output of BenchmarkEmbed of
stages/onnx on the same machine, just before.
"""
import io
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

MODEL = "testdata/onnx/conv.onnx"
TOLERANCE = 1e-4

tercet, bench = sys.argv[1:]
options = onnxruntime.SessionOptions()
session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])


def pixels(data):
    """The images of a data set in the order of its files, as n × 1 × H × W in [0, 1]."""
    images = []
    for path in sorted(pathlib.Path(data).glob("*.parquet")):
        for cell in pq.read_table(path, columns=["image"]).column("image").to_pylist():
            with Image.open(io.BytesIO(cell["bytes"])) as img:
                images.append(np.asarray(img.convert("L"), np.float32)[None] / 255)
    return np.stack(images)


def embed(data, embedder):
    """The embeddings that tercet writes, and how long the program ran."""
    with tempfile.TemporaryDirectory() as folder:
        out = folder + "/embeddings.arrow"
        start = time.perf_counter()
        subprocess.run(
            [tercet, "mine", data, "--embedder", embedder, "--positives", "1", "-o", folder + "/triplets.parquet", "--save-embeddings", out],
            check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        table = pa.ipc.open_file(out).read_all()
    assert table["id"].to_pylist() == list(range(len(table)))
    return np.stack(table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)), seconds


def check(data):
    images = pixels(data)
    want = np.concatenate([session.run(None, {"image": images[i:i + 256]})[0] for i in range(0, len(images), 256)]).astype(np.float64)
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    for embedder in ["onnx:" + MODEL, f"exec:'{sys.executable}' cmd/tercet/examples/embed_onnxruntime.py {MODEL}"]:
        got, seconds = embed(data, embedder)
        assert got.shape == want.shape, (got.shape, want.shape)
        worst = np.abs(got - want).max()
        print(f"{data}: {embedder.split(':')[0]}: {len(images):,} images, largest difference from Python {worst:.1e}, whole command {seconds:.1f} s")
        assert worst <= TOLERANCE, worst


check("testdata/glyphs")
mnist = "../shared/data/mnist-t10k/parquet"
if pathlib.Path(mnist).is_dir():
    check(mnist)
else:
    print(f"{mnist} is not here: MNIST not compared")

images = np.random.default_rng(1).random((2048, 1, 28, 28), np.float32)
best = {}
for batch in (32, 256):
    for _ in range(5):
        start = time.perf_counter()
        for i in range(0, len(images), batch):
            session.run(None, {"image": images[i:i + batch]})
        rate = len(images) / (time.perf_counter() - start)
        best[batch] = max(best.get(batch, 0), rate)
ours = max(float(x) for x in re.findall(r"([\d.]+) images/s", pathlib.Path(bench).read_text()))
print(f"images/s, 28×28: onnx: {ours:,.0f}; Python's onnxruntime {onnxruntime.__version__}: " +
      ", ".join(f"{rate:,.0f} in batches of {batch}" for batch, rate in best.items()) +
      f"; ratio to its best {ours / max(best.values()):.2f}")
