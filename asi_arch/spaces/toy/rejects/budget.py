"""Falls to `budget`: six waves cost more than 64 FLOPs a value."""

RULE = {
    "terms": [
        {"kind": "wave", "frequency": 1.0, "phase": 0.0},
        {"kind": "wave", "frequency": 2.0, "phase": 0.0},
        {"kind": "wave", "frequency": 3.0, "phase": 0.0},
        {"kind": "wave", "frequency": 4.0, "phase": 0.0},
        {"kind": "wave", "frequency": 5.0, "phase": 0.0},
        {"kind": "wave", "frequency": 6.0, "phase": 0.0},
    ]
}
