import doctest
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asi_arch.cognition.base import CognitionBase
from asi_arch.cognition.coverage import coverage_page
from asi_arch.errors import SetupError
from asi_arch.papers import Cognition
from asi_arch.space import BUILT_IN

FOLDER = BUILT_IN / "linear_attention" / "cognition"
OPS = BUILT_IN.parent / "ops" / "__init__.py"
DOCS = BUILT_IN.parent.parent / "docs" / "cognition.md"
SHORTEST = {
    "title": 25,
    "trigger": 80,
    "background": 120,
    "method": 40,
    "implementation": 120,
    "effect": 70,
}

# Written before the first recall was looked at; each names the papers of which one must be in the top 3.
QUERIES = {
    "the loss diverges at a high learning rate because the norms of q and k grow": {"2010.04245"},
    "associative recall falls as the number of pairs grows with an additive memory": {"2102.11174"},
    "text bits per byte are worse although recall is strong: the delta rule cannot forget": {"2412.06464"},
    "one decay for a whole head: a per-channel decay is needed inside the gated delta rule": {"2510.26692"},
    "parity and state tracking cannot be learned": {"2411.12537"},
    "the softmax gate over paths collapses onto one path": {"2507.18074"},
    "a silu output gate delays the learning of recall": {"2510.26692"},
    "recall is at chance because keys never see the previous token": {
        "2212.14052",
        "2305.13048",
        "2501.12352",
    },
    "numerical overflow and NaN from strong per-channel decay": {"2503.14456"},
    "over the parameter budget: the projections of q and k are too large": {"2202.10447", "2405.21060"},
    "verbatim copying of long strings fails whatever the gates": {"2402.01032"},
    "all heads forget at the same speed at the start": {"2412.06464", "2206.11893"},
    "a running denominator comes close to zero with signed features": {"2405.04517"},
    "paths differ in size and one dominates when they are summed": {"2411.13676"},
    "training is slow because of a loop over tokens": {"2406.06484"},
    "linear attention weights are too flat and have high entropy": {"2402.04347"},
    "adding a new path makes early training worse": {"2103.17239", "1505.00387"},
    "finite nan normalise queries and keys, bound decays and gates, guard every division": {
        "2010.04245",
        "2503.14456",
    },
}

# What a grammar of mixers can change, and the papers from which each change comes.
BEHIND_EACH_MOVE = {
    "feature map elu + 1": "2006.16236",
    "feature map learned, exponential": "2402.04347",
    "feature map Taylor": "2402.18668",
    "feature map quadratic, learned": "2402.10644",
    "feature map squared ReLU": "2109.08668",
    "feature map focused": "2308.00442",
    "feature map cosine": "2202.08791",
    "feature map products": "2102.11174",
    "update additive": "2006.16236",
    "update delta": "2406.06484",
    "update gated delta": "2412.06464",
    "update multi-step": "2502.10297",
    "update per-channel gated delta": "2510.26692",
    "decay fixed": "2307.08621",
    "decay scalar": "2405.21060",
    "decay per channel": "2312.06635",
    "decay lower bound": "2311.04823",
    "write strength up to two": "2411.12537",
    "short convolution on q, k, v": "2109.08668",
    "normalisation of q and k": "2010.04245",
    "output gate": "2505.06708",
    "output norm": "2210.10340",
    "several states": "2506.04761",
    "routed states": "2502.13685",
    "local convolution path": "2302.10866",
    "short-window path": "2402.18668",
    "identity path": "1505.00387",
    "static fusion": "2411.13676",
    "two-stage gates with floors": "2507.18074",
    "value residual": "2410.17897",
    "token shift": "2305.13048",
    "rotary positions": "2104.09864",
    "start of time scales": "2206.11893",
}

GOOD = """
arxiv = "2412.06464"
title = "A paper"
year = 2024

[[cognition]]
title = "first"
trigger = "weak recall"
background = "b"
method = "m"
implementation = "i"
effect = "e"

[[cognition]]
title = "second"
trigger = "slow training"
background = "b"
method = "m"
implementation = "i"
effect = "e"
"""


@pytest.fixture(scope="module")
def base() -> CognitionBase:
    return CognitionBase(FOLDER)


def write(folder: Path, text: str, name: str = "2412.06464.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def sentences(cognition: Cognition) -> set[str]:
    text = " ".join(" ".join([getattr(cognition, field) for field in SHORTEST if field != "title"]).split())
    return {s for s in re.split(r"(?<=[.;:])\s", text) if len(s) > 25}


def test_the_linear_attention_space_ships_enough_papers_and_cognitions(base: CognitionBase) -> None:
    assert len({c.paper.arxiv for c in base.all()}) >= 34
    assert len(base.all()) >= 50


def test_ids_are_unique_numbered_from_one_and_found_again(base: CognitionBase) -> None:
    ids = [c.id for c in base.all()]
    assert len(ids) == len(set(ids))
    for cognition in base.all():
        own = base.by_paper(cognition.paper.arxiv)
        assert [c.id for c in own] == [f"{cognition.paper.arxiv}/{n}" for n in range(1, len(own) + 1)]
        assert base.get(cognition.id) is cognition
    assert base.get("2412.06464/99") is None
    assert base.by_paper("0000.00000") == ()


def test_every_shipped_text_says_something(base: CognitionBase) -> None:
    short = [
        f"{c.id} {field}: {len(getattr(c, field))} < {least}"
        for c in base.all()
        for field, least in SHORTEST.items()
        if len(getattr(c, field)) < least
    ]
    assert short == []


def test_no_two_cognitions_share_a_title_or_a_sentence(base: CognitionBase) -> None:
    seen: dict[str, str] = {}
    for cognition in base.all():
        for text in {cognition.title} | sentences(cognition):
            assert seen.setdefault(text, cognition.id) == cognition.id, text


def test_every_implementation_speaks_of_what_a_candidate_may_use(base: CognitionBase) -> None:
    allowed = set(re.findall(r'^    "(\w+)",$', OPS.read_text(), re.MULTILINE))
    assert "gated_delta_rule" in allowed
    for cognition in base.all():
        words = set(re.findall(r"\w+", cognition.implementation))
        assert words & allowed, f"{cognition.id} names no operator or layer of asi_arch.ops"


@pytest.mark.parametrize("move", BEHIND_EACH_MOVE)
def test_a_paper_stands_behind_each_move_of_a_mixer_grammar(base: CognitionBase, move: str) -> None:
    assert base.by_paper(BEHIND_EACH_MOVE[move])


@pytest.mark.parametrize("query", QUERIES)
def test_a_weakness_in_words_recalls_the_paper_that_answers_it(base: CognitionBase, query: str) -> None:
    found = [c.paper.arxiv for c in base.recall(query, 3)]
    assert set(found) & QUERIES[query], found


def test_recall_gives_at_most_k_and_nothing_for_unknown_words(base: CognitionBase) -> None:
    assert len(base.recall("recall of many pairs", 5)) == 5
    assert base.recall("recall", 10**6) == tuple(dict.fromkeys(base.recall("recall", 10**6)))
    assert base.recall("recall", 0) == ()
    assert base.recall("", 3) == ()
    assert base.recall("the of and", 3) == ()
    assert base.recall("xyzzy qwertz", 3) == ()


def test_equal_scores_come_in_the_order_of_ids(tmp_path: Path) -> None:
    for number in (3, 1, 2):
        write(tmp_path, GOOD.replace("2412.06464", f"2412.0000{number}"), f"2412.0000{number}.toml")
    found = CognitionBase(tmp_path).recall("weak recall", 9)
    assert [c.id for c in found] == ["2412.00001/1", "2412.00002/1", "2412.00003/1"]


def test_many_cognitions_of_a_paper_are_ordered_by_number_and_not_by_letters(tmp_path: Path) -> None:
    one = GOOD[GOOD.index("[[cognition]]") : GOOD.rindex("[[cognition]]")]
    write(tmp_path, GOOD + one * 10)
    assert [c.id.split("/")[1] for c in CognitionBase(tmp_path).all()] == [str(n) for n in range(1, 13)]


def test_recall_is_the_same_across_instances_and_threads() -> None:
    reference = {query: CognitionBase(FOLDER).recall(query, 8) for query in QUERIES}
    shared = CognitionBase(FOLDER)  # its index is built by whichever thread comes first
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            found = dict(zip(QUERIES, pool.map(lambda q: shared.recall(q, 8), QUERIES), strict=True))
            assert found == reference


def test_recall_is_the_same_across_processes_and_writes_nothing() -> None:
    code = (
        "import logging, sys; logging.basicConfig(level=logging.DEBUG)\n"
        "from pathlib import Path; from asi_arch.cognition.base import CognitionBase\n"
        "assert 'bm25s' not in sys.modules and 'numpy' not in sys.modules\n"
        f"found = CognitionBase(Path({str(FOLDER)!r})).recall('weak recall with 16 pairs', 6)\n"
        "assert 'torch' not in sys.modules\n"
        "sys.stdout.write(' '.join(c.id for c in found))"
    )
    outputs = set()
    for hash_seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": hash_seed},
            check=False,
        )
        assert (run.returncode, run.stderr) == (0, "")
        outputs.add(run.stdout)
    assert len(outputs) == 1
    assert len(outputs.pop().split()) == 6


def test_an_empty_or_missing_folder_holds_no_cognitions(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        base = CognitionBase(folder)
        assert base.all() == ()
        assert base.recall("recall", 3) == ()


def test_a_good_file_gives_its_paper_and_trimmed_texts(tmp_path: Path) -> None:
    write(tmp_path, GOOD.replace('"weak recall"', '"""\n  weak recall\n"""'))
    first, second = CognitionBase(tmp_path).all()
    assert (first.id, second.id) == ("2412.06464/1", "2412.06464/2")
    assert (first.paper.title, first.paper.year) == ("A paper", 2024)
    assert first.trigger == "weak recall"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('arxiv = "2412.06464"', 'arxiv = "2412.06465"', "arxiv: '2412.06465' differs from the file's name"),
        ('title = "A paper"', "", "title: missing"),
        ("year = 2024", "year = 2023", "year: 2023, but the number 2412.06464 is of 2024"),
        ("year = 2024", 'year = "2024"', "year: '2024' is not a whole number"),
        ("year = 2024", "year = true", "year: True is not a whole number"),
        ("year = 2024", "yaer = 2024", "yaer: unknown; did you mean 'year'?"),
        (
            'trigger = "slow training"',
            'triger = "x"',
            "cognition[2].triger: unknown; did you mean 'trigger'?",
        ),
        ('trigger = "slow training"', "", "cognition[2].trigger: missing"),
        ('trigger = "slow training"', 'trigger = " "', "cognition[2].trigger: empty"),
        ('trigger = "slow training"', "trigger = 3", "cognition[2].trigger: 3 is not a text"),
        ("[[cognition]]", "[[kognition]]", "kognition: unknown; did you mean 'cognition'?"),
        (GOOD[GOOD.index("[[") :], "", "cognition: missing"),
        (GOOD[GOOD.index("[[") :], "cognition = 3", "cognition: 3 is not a list of tables"),
        (GOOD[GOOD.index("[[") :], "cognition = []", "cognition: empty"),
        ("year = 2024", "year = ", "not valid TOML"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_with_file_key_and_cure(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(SetupError) as caught:
        CognitionBase(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert "\n" not in message
    assert "; " in message.removeprefix(f"{path}: "), "no cure"


@pytest.mark.parametrize("name", ["delta_net.toml", "2412.064.toml", "2413.00001.toml", "2412.06464v2.toml"])
def test_a_file_whose_name_is_no_arxiv_number_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, GOOD, name)
    with pytest.raises(SetupError, match="is no arXiv number"):
        CognitionBase(tmp_path)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "2412.06464.toml").write_bytes(b'arxiv = "\xff"')
    with pytest.raises(SetupError, match="not UTF-8"):
        CognitionBase(tmp_path)


def test_every_paper_has_one_of_the_themes_and_every_theme_has_papers(base: CognitionBase) -> None:
    assert {c.paper.theme for c in base.all()} == set(base.themes)
    assert 12 <= len(base.themes) <= 20


@pytest.mark.parametrize(
    ("theme", "expected"),
    [
        ("", "theme: missing; write one of decay, gating"),
        ('theme = "decays"', "theme: 'decays' is none of themes.toml; did you mean 'decay'?"),
        ('theme = "zzz"', "write one of decay, gating"),
        ("theme = 3", "theme: 3 is not a text"),
    ],
)
def test_where_themes_are_named_a_paper_needs_one_of_them(tmp_path: Path, theme: str, expected: str) -> None:
    (tmp_path / "themes.toml").write_text('decay = "Gates that forget"\ngating = "Gates"\n')
    write(tmp_path, GOOD.replace("year = 2024", f"year = 2024\n{theme}"))
    with pytest.raises(SetupError) as caught:
        CognitionBase(tmp_path)
    assert expected in str(caught.value)
    write(tmp_path, GOOD.replace("year = 2024", 'year = 2024\ntheme = "decay"'))
    assert CognitionBase(tmp_path).all()[0].paper.theme == "decay"


def test_the_page_of_what_is_covered_is_that_of_the_base(base: CognitionBase) -> None:
    """Made anew by: asi-arch cognition list --space linear_attention --coverage > the page."""
    page = (DOCS.parent / "cognition_coverage.md").read_text()
    assert page == coverage_page(base)
    rows = re.findall(
        r"^\| (\d{4}\.\d{4,5}) \| .+ \| (\d{4}) \| (\d+) \| (\d+) of (\d+) \|$", page, re.MULTILINE
    )
    papers = {c.paper.arxiv for c in base.all()}
    assert len(rows) == len(papers)
    assert {row[0] for row in rows} == papers
    assert sum(int(row[2]) for row in rows) == len(base.all())
    assert sum(int(row[3]) for row in rows) == sum(c.checked for c in base.all())


def test_the_example_in_the_docs_is_what_recall_gives() -> None:
    result = doctest.testfile(str(DOCS), module_relative=False)
    assert (result.attempted, result.failed) == (4, 0)
