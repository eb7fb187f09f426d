"""Scrapes tercet mine while it runs, with Prometheus's own reader of its text
format, and reads the statistics that it leaves when it is killed."""

import json
import re
import subprocess
import sys
import time
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

tercet, data, stats, out = sys.argv[1:]
job = subprocess.Popen(
    [tercet, "mine", data, "-o", out, "--scope", "batch", "--batches", "1000000", "--size", "12x12", "--dim", "16",
     "--stats", stats, "--stats-every", "20", "--metrics-addr", ":0"],
    stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
url = next(m[0] for m in (re.search(r"http://127\.0\.0\.1:\d+/metrics", line) for line in job.stderr) if m)


def scrape():
    with urllib.request.urlopen(url) as reply:
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4"), reply.headers
        families = {f.name: f for f in text_string_to_metric_families(reply.read().decode())}
    return families, {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families.values() for s in f.samples}


batches = ("tercet_batches_total", ())
for _ in range(600):
    families, samples = scrape()
    if samples[batches] >= 100:
        break
    time.sleep(0.1)
assert samples[batches] >= 100, samples
later = scrape()[1]
assert later[batches] >= samples[batches] and later.keys() >= samples.keys()
for name, kind in {"tercet_triplets": "counter", "tercet_distance": "summary", "tercet_classes": "gauge", "tercet_alarm": "gauge"}.items():
    assert families[name].type == kind and families[name].documentation, families[name]
assert samples[("tercet_triplets_total", (("kind", "semi-hard"),))] > 0
low, high = (samples[("tercet_distance", (("of", "anchor_negative"), ("quantile", q)))] for q in ("0.1", "0.9"))
assert 0 < low < high <= 4, (low, high)
job.kill()
job.wait()

with open(stats) as f:
    text = f.read()
assert text.endswith("\n")
run, *reports = map(json.loads, text.splitlines())
assert run["run"]["scope"] == "batch" and len(reports) >= 5
for i, r in enumerate(reports):
    assert (r["first"], r["last"], r["batches"]) == (20 * i, 20 * i + 19, 20), r
    assert 0 < r["active_share"] <= 1 and r["d_ap"]["p50"] < r["d_ap"]["p99"] and r["alarms"] == []
print(f"{len(families)} families, {len(samples)} series; {len(reports)} reports were there after a kill")
