"""Cost: what each service uses, priced at dated unit prices.

In: pids, cost/prices.yaml. Out: ops.cost_samples. Keep: use is measured; only the price is assumed.
"""
