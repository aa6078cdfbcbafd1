"""Falls to `source`: a call is no literal."""

RULE = {"terms": [{"kind": "power", "degree": abs(-1)}]}
