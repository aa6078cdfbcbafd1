"""A parabola: what a straight line lacks first."""

RULE = {"terms": [{"kind": "power", "degree": 1}, {"kind": "power", "degree": 2}]}
