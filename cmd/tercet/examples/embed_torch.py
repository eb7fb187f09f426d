"""Embeds images for tercet with PyTorch, on a GPU where there is one:

    tercet mine DATA --embedder "exec:python3 embed_torch.py model.pt" -o triplets.parquet

model.pt is a TorchScript file (torch.jit.save) that maps n × C × H × W to n × D.
"""
import sys

import pyarrow as pa
import torch

device = "cuda" if torch.cuda.is_available() else "cpu"
model = torch.jit.load(sys.argv[1], map_location=device).eval()

writer = None
with pa.ipc.open_stream(sys.stdin.buffer) as batches, torch.no_grad():
    for batch in batches:
        images = torch.tensor(batch.column("image").to_numpy_ndarray())  # n × C × H × W, float32
        rows = model(images.to(device)).float().cpu().numpy()
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
        answer = pa.record_batch([batch.column("id"), vectors], names=["id", "embedding"])
        if writer is None:
            writer = pa.ipc.new_stream(sys.stdout.buffer, answer.schema)
        writer.write_batch(answer)
        sys.stdout.buffer.flush()
