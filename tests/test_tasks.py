import hashlib
import math
from collections import Counter
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asi_arch.engineer.task import (
    IGNORED,
    RowScores,
    load_task,
    mean_metric,
    task_names,
)
from asi_arch.engineer.tasks import recall, text
from asi_arch.records import Split

SPLITS = get_args(Split)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_the_tasks_are_the_modules_of_the_folder_and_an_unknown_one_is_named():
    assert task_names() == ("recall", "text")
    with pytest.raises(ValueError, match=r"no task 'prose'; the tasks are recall, text"):
        load_task("prose", "train")


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", task_names())
def test_every_task_gives_whole_rows_that_each_ask_something(name, split):
    task = load_task(name, split)
    groups = task.evaluation(rng(), 3, 40)
    for rows in [task.sample(rng(), 3, 40), *groups.values()]:
        assert rows.inputs.shape == rows.targets.shape == (3, 40)
        assert rows.inputs.dtype == rows.targets.dtype == torch.int64
        assert rows.inputs.min() >= 0
        assert rows.inputs.max() < 256
        asked = rows.targets != IGNORED
        assert asked.any(1).all()
        assert (rows.targets[asked] >= 0).all()
        assert (rows.targets[asked] < 256).all()
    row = RowScores(nll=torch.rand(3).double(), accuracy=torch.rand(3).double())
    assert len(task.score(dict.fromkeys(groups, row)).metrics) == 1


@pytest.mark.parametrize("name", task_names())
def test_the_generator_alone_decides_the_rows(name):
    task = load_task(name, "validation")
    a, b, c = (task.sample(rng(seed), 8, 64) for seed in (1, 1, 2))
    assert torch.equal(a.inputs, b.inputs)
    assert torch.equal(a.targets, b.targets)
    assert not torch.equal(a.inputs, c.inputs)


def test_the_splits_share_no_file_and_have_the_shares_that_they_should():
    names = {split: {p.as_posix() for p in text.files(text.library(), split)} for split in SPLITS}
    whole = set.union(*names.values())
    assert sum(map(len, names.values())) == len(whole)
    assert 0.74 < len(names["train"]) / len(whole) < 0.86
    assert 0.06 < len(names["validation"]) / len(whole) < 0.14
    assert 0.06 < len(names["test"]) / len(whole) < 0.14


def test_the_split_of_a_file_follows_from_its_relative_path_only(tmp_path):
    for name in ("json/decoder.py", "test/a.py", "encodings/b.py", "my_tests.py", "site-packages/c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = {s: [p.relative_to(tmp_path).as_posix() for p in text.files(tmp_path, s)] for s in SPLITS}
    for name in ("json/decoder.py", "my_tests.py"):
        percent = int(hashlib.md5(name.encode()).hexdigest(), 16) % 100
        assert name in found["test" if percent < 10 else "validation" if percent < 20 else "train"]
    assert sum(map(len, found.values())) == 2


def test_a_library_whose_own_path_holds_an_excluded_word_is_read_all_the_same(tmp_path):
    folder = tmp_path / "test" / "encodings"
    folder.mkdir(parents=True)
    (folder / "ast.py").write_text("x")
    assert sum(len(text.files(folder, split)) for split in SPLITS) == 1


def test_bytes_beyond_ascii_become_question_marks_and_all_others_stay():
    raw = b"".join(path.read_bytes() for path in text.files(text.library(), "train"))
    assert max(raw) >= 128
    table = bytes(byte if byte < 128 else ord("?") for byte in range(256))
    assert text.load("train").text.tobytes() == raw.translate(table)


def test_each_target_of_text_is_the_byte_that_follows_in_the_corpus():
    task = text.load("validation")
    rows = task.sample(rng(), 16, 64)
    corpus = task.text.tobytes()
    for inputs, targets in zip(rows.inputs.tolist(), rows.targets.tolist(), strict=True):
        assert inputs[1:] == targets[:-1]
        assert bytes([*inputs, targets[-1]]) in corpus


def test_a_window_of_text_may_start_at_the_first_and_at_the_last_place():
    task = text.Text(np.arange(7, dtype=np.uint8))
    rows = task.sample(rng(), 200, 4)
    assert set(rows.inputs[:, 0].tolist()) == {0, 1, 2}
    assert rows.targets.max() == 6


def test_text_is_scored_in_bits_per_byte():
    nll = torch.full((4,), 3 * math.log(2), dtype=torch.float64)
    scores = text.load("validation").score({"text": RowScores(nll=nll, accuracy=nll)})
    assert scores.metrics["bits_per_byte"].value == pytest.approx(3)


def test_a_fingerprint_tells_texts_apart():
    assert text.fingerprint("validation") == text.fingerprint("validation")
    assert text.fingerprint("validation") != text.fingerprint("train")


def answers(inputs):
    """Solve a row of recall by hand: at each place the value of a key that was stated before, or IGNORED."""
    known, found = {}, []
    for place, token in enumerate(inputs):
        if place % 2:
            found.append(IGNORED)
            known[inputs[place - 1]] = token
        else:
            found.append(known.get(token, IGNORED))
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 20), st.integers(0, 40))
def test_the_targets_of_recall_are_what_the_row_itself_says(seed, n, more):
    length = 2 * n + 1 + more
    rows = recall.draw(rng(seed), [n] * 4, length)
    for inputs, targets in zip(rows.inputs.tolist(), rows.targets.tolist(), strict=True):
        assert targets == answers(inputs)
        keys, values = inputs[0::2], inputs[1::2]
        assert len(set(keys[:n])) == n
        assert set(keys[n:]) <= set(keys[:n])
        assert all(128 <= key < 160 for key in keys)
        assert all(192 <= value < 224 for value in values)
        asked = [target for target in targets if target != IGNORED]
        assert len(asked) == (length + 1) // 2 - n
        assert asked[: len(values) - n] == values[n:]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 16))
def test_recall_asks_every_key_equally_often_but_for_one(seed, n):
    rows = recall.draw(rng(seed), [n] * 4, 64)
    for inputs in rows.inputs.tolist():
        counts = Counter(inputs[2 * n :: 2])
        assert max(counts.values()) - min(counts[key] for key in inputs[0 : 2 * n : 2]) <= 1


def test_recall_queries_come_in_a_random_order():
    rows = recall.draw(rng(), [8] * 200, 64)
    keys = rows.inputs[:, 0::2]
    first = (keys[:, 8:9] == keys[:, :8]).double().mean(0)  # which pair is asked first
    assert first.min() > 0.05
    assert first.max() < 0.22


def test_training_rows_of_recall_mix_all_numbers_of_pairs():
    rows = recall.load("train").sample(rng(), 400, 64)
    asked = Counter((rows.targets != IGNORED).sum(1).tolist())
    assert set(asked) == {32 - n for n in recall.NUM_PAIRS}
    assert all(60 < count < 140 for count in asked.values())


def test_recall_refuses_a_row_without_room_for_a_query():
    with pytest.raises(ValueError, match="16 pairs leave no query in 32 tokens; need 33"):
        recall.draw(rng(), [2, 16], 32)
    assert (recall.draw(rng(), [16], 33).targets != IGNORED).sum() == 1


def test_standard_errors_agree_with_a_bootstrap_over_rows():
    generator = rng(3)
    groups = [generator.gamma(1 + i, 1.0, 60) for i in range(4)]
    metric = mean_metric([torch.from_numpy(group) for group in groups])
    means = [group[generator.integers(0, 60, (4000, 60))].mean(1) for group in groups]
    assert metric.value == pytest.approx(np.mean(groups))
    assert metric.standard_error == pytest.approx(np.std(sum(means) / 4), rel=0.06)
