"""A bump at every place: what memorising the points gives. Over the budget, and lost beyond the points."""

RULE = {
    "terms": [
        {"kind": "bump", "at": -1.0, "width": 0.2},
        {"kind": "bump", "at": -0.8, "width": 0.2},
        {"kind": "bump", "at": -0.6, "width": 0.2},
        {"kind": "bump", "at": -0.4, "width": 0.2},
        {"kind": "bump", "at": -0.2, "width": 0.2},
        {"kind": "bump", "at": 0.0, "width": 0.2},
        {"kind": "bump", "at": 0.2, "width": 0.2},
        {"kind": "bump", "at": 0.4, "width": 0.2},
        {"kind": "bump", "at": 0.6, "width": 0.2},
        {"kind": "bump", "at": 0.8, "width": 0.2},
        {"kind": "bump", "at": 1.0, "width": 0.2},
    ]
}
