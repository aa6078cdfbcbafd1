"""A straight line: the seed."""

RULE = {"terms": [{"kind": "power", "degree": 1}]}
