"""Falls to `graph`: there is no such kind of term."""

RULE = {"terms": [{"kind": "spline", "knots": 4}]}
