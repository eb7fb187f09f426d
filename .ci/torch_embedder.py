#!/usr/bin/env python3
"""PyTorch: what tercet embeds through examples/embed_torch.py is what PyTorch gives.

torch_embedder.py TERCET: run in an environment with torch, pyarrow, numpy and pillow.
"""
import io
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

DATA = "testdata/glyphs"
TOLERANCE = 1e-4

torch.manual_seed(1)
net = torch.nn.Sequential(
    torch.nn.Conv2d(1, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(128, 32)).eval()
with tempfile.TemporaryDirectory() as folder:
    torch.jit.script(net).save(folder + "/net.pt")
    subprocess.run(
        [sys.argv[1], "mine", DATA, "--embedder", f"exec:'{sys.executable}' cmd/tercet/examples/embed_torch.py {folder}/net.pt",
         "-o", folder + "/triplets.parquet", "--save-embeddings", folder + "/embeddings.arrow"],
        check=True, stdout=subprocess.DEVNULL)
    table = pa.ipc.open_file(folder + "/embeddings.arrow").read_all()
got = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)

images = []
for path in sorted(pathlib.Path(DATA).glob("*.parquet")):
    for cell in pq.read_table(path, columns=["image"]).column("image").to_pylist():
        images.append(np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("L"), np.float32)[None] / 255)
with torch.no_grad():
    want = net(torch.tensor(np.stack(images))).numpy()
want /= np.linalg.norm(want, axis=1, keepdims=True)
worst = np.abs(got - want).max()
print(f"{DATA}: {len(images)} images, PyTorch {torch.__version__}: largest difference {worst:.1e}")
assert got.shape == want.shape and worst <= TOLERANCE, (got.shape, want.shape, worst)
