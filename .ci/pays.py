#!/usr/bin/env python3
"""It pays: pays.py TABLE, the JSON that tercet compare has printed: semi-hard ends above random, and both above the start."""
import json
import sys

with open(sys.argv[1]) as f:
    table = json.load(f)
mean = {rule["rule"]: rule["mean"] for rule in table["rules"]}
for rule in table["rules"]:
    print(f"{rule['rule']}: recall@1 {rule['mean']:.3f} ± {rule['std']:.3f} by {len(rule['recall_at_1'])} seeds, {100 * rule['active']:.0f} % of the triplets with a loss")
assert mean["semi-hard"] > mean["random"] > table["recall_at_1_untrained"], (mean, table["recall_at_1_untrained"])
