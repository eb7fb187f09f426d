"""Embeds images for tercet with ONNX Runtime:

    tercet mine DATA --embedder "exec:python3 embed_onnxruntime.py model.onnx" -o triplets.parquet
"""
import sys

import onnxruntime
import pyarrow as pa

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
input_name = session.get_inputs()[0].name

writer = None
with pa.ipc.open_stream(sys.stdin.buffer) as batches:
    for batch in batches:
        images = batch.column("image").to_numpy_ndarray()  # n × C × H × W, float32
        rows = session.run(None, {input_name: images})[0].reshape(len(images), -1)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
        answer = pa.record_batch([batch.column("id"), vectors], names=["id", "embedding"])
        if writer is None:
            writer = pa.ipc.new_stream(sys.stdout.buffer, answer.schema)
        writer.write_batch(answer)
        sys.stdout.buffer.flush()
