"""A line and one wave, as Fourier features have it (arXiv:2006.10739)."""

RULE = {"terms": [{"kind": "power", "degree": 1}, {"kind": "wave", "frequency": 3.0, "phase": 0.0}]}
