"""A paper goes into a study's own knowledge: real files, a real server, the real command."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llm_server import Answer, Asked, Reply, Server
from llm_study import CANARY
from papers import ANSWER, PIECE, TITLE, write_paper, write_scan
from toy import toy_study

from asi_arch.archive.folder import open_folder
from asi_arch.cognition.base import CognitionBase
from asi_arch.cognition.document import MOST_PAGES, Document, read_document
from asi_arch.cognition.extract import Extract, Passage, Piece, cognitions_of, name_for, reviewer, squeezed
from asi_arch.cognition.paper import read_paper
from asi_arch.cognition.words import near_duplicates
from asi_arch.cognition.write import to_toml
from asi_arch.errors import SetupError
from asi_arch.settings import Settings
from asi_arch.space import BUILT_IN, load_space
from asi_arch.study import Study

TOY = BUILT_IN / "toy" / "cognition"
LINEAR = BUILT_IN / "linear_attention" / "cognition"


def asi_arch(*words: object, cwd: Path, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    plain = {
        k: v for k, v in os.environ.items() if k not in ("COLUMNS", "EDITOR", "VISUAL", "OPENAI_API_KEY")
    }
    command = [sys.executable, "-W", "error", "-m", "asi_arch", "cognition", *map(str, words)]
    return subprocess.run(
        command,
        cwd=cwd,
        env=plain | environ,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    Study.create(folder, Settings(space="toy")).close()
    return folder


@pytest.fixture(scope="module")
def paper(tmp_path_factory) -> Path:
    return write_paper(tmp_path_factory.mktemp("papers") / "Leaky Ledgers (v2).pdf")


def wrong_then_right(asked: Asked) -> Reply:
    """A model that first misquotes, then names the wrong page, then copies, then answers well."""
    quotes: list[dict[str, Any]] = PIECE["quotes"]
    answers = [
        PIECE | {"quotes": [{"page": 1, "text": "cannot tell a full slot from a faded"}]},
        PIECE | {"quotes": [quotes[0] | {"page": 2}]},
        PIECE | {"background": "They say that scalar decay forgets everything at one pace, and so the "
                 "accuracy on pairs that stand far apart falls although room is left."},
        PIECE,
    ]  # fmt: skip
    return Answer(ANSWER | {"cognitions": [answers[min(asked.turn, 3)]]})


def test_a_pdf_of_two_columns_becomes_knowledge_that_the_study_recalls_at_once(study, paper, tmp_path):
    opened = Study.open(study)
    before = opened.cognition.recall("faded keys and empty slots of a ledger", 9)
    with Server(wrong_then_right) as server:
        done = asi_arch(
            "add", paper, "--study", study, "--model", f"openai:small@{server.openai}", "--yes",
            cwd=tmp_path, OPENAI_API_KEY=CANARY,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        sent_back = [asked.last for asked in server.requests[1:]]
        assert "is not on page 1; it stands on no page" in sent_back[0]
        assert "is not on page 2; it stands on page 1" in sent_back[1]
        assert "stands so in the paper; say it in your own words" in sent_back[2]
        assert len(server.requests) == 4
        asked = server.requests[0]
        assert asked.about("## Page 1")
        assert asked.about("o_t = S_t^T (q_t * (1 + a L_t))")
        assert asked.about("error outside")
        assert asked.about("- add_wave: A wave of its own frequency")
    path = study / "cognition" / "leaky-ledgers-v2.toml"
    assert f"kept in {path}" in done.stdout
    (cognition,) = read_paper(path, own=True)
    assert (cognition.id, cognition.paper.title, cognition.paper.year) == ("leaky-ledgers-v2/1", TITLE, 2026)
    assert not cognition.checked
    assert [(q.page, q.text) for q in cognition.quotes] == [(q["page"], q["text"]) for q in PIECE["quotes"]]
    assert cognition.method == PIECE["method"]
    assert "leaky-ledgers-v2/1" not in {c.id for c in before}
    found = opened.cognition.recall("faded keys and empty slots of a ledger", 9)  # the same, open study
    assert found[0].id == "leaky-ledgers-v2/1"
    assert opened.cast.desk.search("ledger").startswith("[leaky-ledgers-v2/1]")
    assert "nobody has checked" in opened.cast.desk.search("ledger")
    assert opened.cast.desk.knows("leaky-ledgers-v2/1")
    opened.close()
    _, archive = open_folder(study)
    (call,) = archive.calls()
    archive.close()
    assert (call.role, call.experiment, len(call.turns)) == ("extractor", None, 4)


def test_what_was_added_is_found_shown_listed_and_confirmed(study, tmp_path):
    text = to_toml(cognitions_of(extracted(), "ledgers"))
    (study / "cognition").mkdir()
    (study / "cognition" / "ledgers.toml").write_text(text)
    found = asi_arch("search", "faded ledger", "--study", study, "--count", 1, cwd=tmp_path)
    assert "ledgers/1" in found.stdout
    assert "Found by words 1. (" in found.stdout
    assert "faded" in found.stdout.split("in trigger: ")[1]
    assert found.stderr.startswith("recall: by words (BM25)")
    shown = asi_arch("show", "ledgers", "--study", study, cwd=tmp_path)
    assert "not checked by a person" in shown.stdout
    assert 'evidence: "accuracy rises from 0.41 to 0.68" (1)' in shown.stdout
    done = asi_arch("confirm", "ledgers/1", "--study", study, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (cognition,) = read_paper(study / "cognition" / "ledgers.toml", own=True)
    assert (cognition.checked, cognition.source) == (True, "p. 1")
    (before,) = cognitions_of(extracted(), "ledgers")
    assert cognition.quotes == before.quotes
    assert cognition.effect.split() == before.effect.split()
    listed = asi_arch("list", "--paper", "ledgers", "--study", study, cwd=tmp_path)
    assert "yes" in listed.stdout.split()
    again = asi_arch("confirm", "ledgers/1", "--study", study, cwd=tmp_path)
    assert (again.returncode, again.stderr) == (2, "asi-arch: ledgers/1 is checked already, against p. 1\n")


def test_an_editor_has_the_last_word(study, paper, tmp_path):
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import sys; from pathlib import Path; p = Path(sys.argv[1]); "
        "p.write_text(p.read_text().replace('Keep a ledger', 'Keep a running ledger'))"
    )
    with Server(lambda _: Answer(ANSWER)) as server:
        words = ("add", paper, "--study", study, "--model", f"openai:small@{server.openai}")
        edited = asi_arch(*words, cwd=tmp_path, EDITOR=f"{sys.executable} {editor}")
        assert edited.returncode == 0, edited.stderr
        (cognition,) = read_paper(study / "cognition" / "leaky-ledgers-v2.toml", own=True)
        assert cognition.title.startswith("Keep a running ledger")
        editor.write_text("import sys; open(sys.argv[1], 'w').write('title = 3')")
        broken = asi_arch(*words, cwd=tmp_path, EDITOR=f"{sys.executable} {editor}")
        assert broken.returncode == 2
        assert "name: missing; add the key 'name'" in broken.stderr
        editor.write_text("import sys; open(sys.argv[1], 'w').write('')")
        emptied = asi_arch(*words, cwd=tmp_path, EDITOR=f"{sys.executable} {editor}")
        assert "nothing was kept" in emptied.stdout
        asked = len(server.requests)
        assert "says much the same as leaky-ledgers-v2/1" in emptied.stdout
        none = asi_arch(*words, cwd=tmp_path)
        assert none.returncode == 2
        assert "--yes" in none.stderr
        assert len(server.requests) == asked  # nothing was asked in vain
    assert [path.name for path in (study / "cognition").iterdir()] == ["leaky-ledgers-v2.toml"]


def test_what_cannot_be_read_is_one_line_with_its_cure(study, paper, tmp_path):
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(paper.read_bytes()[:400])
    text = tmp_path / "text.pdf"
    text.write_text("no PDF at all")
    scan, long = write_scan(tmp_path / "scan.pdf"), write_paper(tmp_path / "long.pdf", 300)
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = {
        broken: "not a PDF that can be read",
        text: "not a PDF that can be read",
        scan: "0 characters of text on 3 pages; it may be scanned: run OCR",
        long: f"has 300 pages, and {MOST_PAGES} are read at once; name those that matter, such as --pages",
        empty: "no .tex file; name the main file itself",
        tmp_path / "none.pdf": "no file",
        Path("2412.06464"): "no file 2412.06464; PAPER is a PDF",
    }
    for path, expected in cases.items():
        with pytest.raises(SetupError) as caught:
            read_document(path)
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)
    done = asi_arch("add", scan, "--study", study, "--yes", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    done = asi_arch("add", paper, "--study", study, "--yes", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is none: --model PROVIDER:NAME" in done.stderr
    assert not (study / "cognition").exists()
    done = asi_arch("add", paper, "--study", tmp_path / "no", "--yes", cwd=tmp_path)
    assert "no study in" in done.stderr


def test_pages_are_chosen_by_number(tmp_path):
    long = write_paper(tmp_path / "long.pdf", 80)
    found = read_document(long, "1-2,80")
    assert list(found.pages) == [1, 2, 80]
    assert "Appendix on page 80" in found.pages[80]
    for pages, expected in {
        "1-81": "has pages 1 to 80",
        "0": "has pages 1 to 80",
        "x": "names no pages",
        "1-61": "61 pages",
    }.items():
        with pytest.raises(SetupError, match=expected):
            read_document(long, pages)


def test_a_locked_pdf_is_told_apart(paper, tmp_path):
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(paper))
    writer.encrypt("secret", algorithm="RC4-128")
    locked = tmp_path / "locked.pdf"
    writer.write(locked)
    with pytest.raises(SetupError, match="locked with a password"):
        read_document(locked)


def test_latex_source_is_read_from_its_main_file_with_what_it_includes(tmp_path):
    (tmp_path / "sections").mkdir()
    body = "A long line on what a memory keeps, and for how long. " * 5
    (tmp_path / "ms.tex").write_text(
        "\\documentclass{article}\n\\title{A {nested} title}\n\\begin{document}\n"
        "Opening words.\n\\input{sections/method} % \\input{sections/hidden}\n"
        "\\section{End} Last words. 5\\% more.\n"
        "\\input{../outside}\\end{document} after"
    )
    (tmp_path / "sections" / "method.tex").write_text(f"\\section{{Method}} {body} $S_t = k_t v_t^\\top$\n")
    (tmp_path / "sections" / "hidden.tex").write_text("never")
    (tmp_path.parent / "outside.tex").write_text("a secret outside of the folder")
    (tmp_path / "poster.tex").write_text("\\documentclass{beamer}\\begin{document}short\\end{document}")
    found = read_document(tmp_path)
    assert found.unit == "section"
    assert [text.split("}")[0] for text in found.pages.values()][1:] == ["\\section{Method", "\\section{End"]
    assert found.pages[1].startswith("Title: A {nested} title")
    whole = "".join(found.pages.values())
    assert "k_t v_t^\\top" in whole
    assert "5\\% more" in whole
    assert not {word for word in ("never", "secret", "after", "short") if word in whole.split()}


def test_html_and_markdown_are_read_by_heading(tmp_path):
    line = "Words about a state and what is lost of it. " * 6
    html = tmp_path / "paper.html"
    html.write_text(
        f"<html><head><title>t</title><style>p {{}}</style></head><body><h1>One</h1><p>{line}</p>"
        "<script>bad()</script><h2>Two</h2><p>With <math alttext='S_t'><mi>S</mi></math> &amp; more.</p>"
    )
    found = read_document(html)
    assert len(found.pages) == 2
    assert "S_t" in found.pages[2]
    assert "& more" in found.pages[2]
    assert "bad()" not in "".join(found.pages.values())
    markdown = tmp_path / "paper.md"
    markdown.write_text(f"# One\n{line}\n## Two\nMore.\n")
    assert [text.split("\n")[0] for text in read_document(markdown).pages.values()] == ["# One", "## Two"]
    assert list(read_document(markdown, "1").pages) == [1]
    long = tmp_path / "long.md"
    long.write_text("word " * 60_000)
    with pytest.raises(SetupError, match="are read at once; name the sections that matter"):
        read_document(long)


def extracted(**changes: Any) -> Extract:
    values = PIECE | changes
    quotes = tuple(Passage(**quote) for quote in values["quotes"])
    return Extract(title=TITLE, year=2026, cognitions=(Piece(**(values | {"quotes": quotes})),))


DOCUMENT = Document(
    stem="x",
    unit="page",
    pages={1: "An efﬁcient mem-\nory reads what it booked, and no more.", 2: "Other words."},
)


@pytest.mark.parametrize(
    ("quotes", "expected"),
    [
        ([{"page": 1, "text": "efficient memory"}], None),
        ([{"page": 1, "text": "READS  what it\nbooked"}], None),
        ([{"page": 2, "text": "efficient memory"}], "is not on page 2; it stands on page 1"),
        ([{"page": 7, "text": "Other words"}], "is not on page 7; it stands on page 2"),
        ([{"page": 1, "text": "inefficient memory"}], "it stands on no page"),
        ([{"page": 1, "text": "one two three four five six seven eight nine"}], "has 9 words; at most 8"),
        ([{"page": 1, "text": " -- "}], "holds no word"),
        ([], "give at least one passage"),
    ],
)
def test_a_quote_must_stand_on_its_page_whatever_hyphens_ligatures_and_line_ends_do(quotes, expected):
    fault = reviewer(DOCUMENT, {})(extracted(quotes=quotes))
    assert fault is None if expected is None else expected in str(fault)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"trigger": "too short"}, "trigger: 9 characters say too little"),
        ({"method": " "}, "method: 0 characters"),
    ],
)
def test_a_thin_answer_is_sent_back(changes, expected):
    assert expected in str(reviewer(DOCUMENT, {})(extracted(**changes)))


def test_an_answer_of_another_theme_number_or_size_is_sent_back():
    review, good = reviewer(DOCUMENT, {"decay": "x"}), extracted(quotes=[{"page": 1, "text": "booked"}])
    assert review(good) is None
    assert "theme: 'decoy' is none of decay" in str(review(replace(good, theme="decoy")))
    assert "arxiv: '12' is no number" in str(review(replace(good, arxiv="12")))
    assert "give 1 to 3, not 4" in str(review(replace(good, cognitions=good.cognitions * 4)))
    assert "title, year" in str(review(replace(good, year=26)))


def test_links_are_to_moves_of_the_grammar_in_an_answer_and_in_a_file(tmp_path):
    moves = load_space("toy").moves()
    linked = extracted(quotes=[{"page": 1, "text": "booked"}], moves=("add_wave", "add_wave"))
    assert reviewer(DOCUMENT, {}, moves)(linked) is None
    (cognition,) = cognitions_of(linked, "ledgers")
    assert cognition.moves == ("add_wave",)
    wrong = extracted(quotes=[{"page": 1, "text": "booked"}], moves=("add_waves",))
    fault = "moves: 'add_waves' is no move of the grammar; nearest are add_wave"
    assert fault in str(reviewer(DOCUMENT, {}, moves)(wrong))
    path = tmp_path / "ledgers.toml"
    path.write_text(to_toml([cognition]))
    assert [read.moves for read in read_paper(path, own=True, moves=moves)] == [("add_wave",)]
    path.write_text(to_toml(cognitions_of(wrong, "ledgers")))
    told = r"cognition\[1\]\.moves: 'add_waves' is no move of the grammar; did you mean 'add_wave'\?"
    with pytest.raises(SetupError, match=told):
        CognitionBase(TOY, tmp_path, moves=moves)
    CognitionBase(TOY, tmp_path)  # of a space without a grammar


def test_a_name_is_the_number_of_the_paper_unless_it_is_taken():
    found = replace(extracted(), arxiv="2412.06464")
    assert name_for(found, DOCUMENT, []) == "2412.06464"
    assert name_for(found, DOCUMENT, ["2412.06464"]) == "own-2412.06464"
    assert name_for(found, DOCUMENT, ["2412.06464", "own-2412.06464"]) == "own-2412.06464-2"
    assert name_for(extracted(), replace(DOCUMENT, stem="Über alles!"), []) == "ber-alles"
    assert name_for(extracted(), replace(DOCUMENT, stem="??"), []) == "paper"


def test_a_file_that_is_written_reads_back_the_same(tmp_path):
    base = CognitionBase(LINEAR)
    for arxiv in ("2412.06464", "2405.04517", "2106.06295"):
        (tmp_path / f"{arxiv}.toml").write_text(to_toml(base.by_paper(arxiv)), encoding="utf-8")
        again = read_paper(tmp_path / f"{arxiv}.toml", base.themes)
        flat = [
            [" ".join(str(getattr(c, f)).split()) for f in ("id", "trigger", "method", "source")]
            for c in again
        ]
        assert flat == [
            [" ".join(str(getattr(c, f)).split()) for f in ("id", "trigger", "method", "source")]
            for c in base.by_paper(arxiv)
        ]
    odd = extracted(method='a \\ b """ c\n  d\t"e"\x07', quotes=[{"page": 3, "text": 'so "it" \\ is'}])
    (cognition,) = cognitions_of(odd, "odd")
    (tmp_path / "odd.toml").write_text(to_toml([cognition]), encoding="utf-8")
    (read,) = read_paper(tmp_path / "odd.toml", own=True)
    assert "\x07" not in read.method
    assert read.method.split() == ["a", "\\", "b", '"""', "c", "d", '"e"']
    assert read.quotes == cognition.quotes


def test_a_near_duplicate_is_named_and_a_new_idea_is_not():
    base = CognitionBase(LINEAR)
    known = base.get("2412.06464/1")
    assert known is not None
    others = [c for c in base.all() if c.id != known.id]
    ((near, share), *_) = near_duplicates(replace(known, id="x/1"), base.all())
    assert (near.id, share) == ("2412.06464/1", pytest.approx(1, abs=0.05))
    assert near_duplicates(known, others) == []


def test_a_study_s_own_file_that_breaks_later_leaves_recall_as_it_was(tmp_path):
    own = tmp_path / "cognition"
    own.mkdir()
    path = own / "ledgers.toml"
    path.write_text(to_toml(cognitions_of(extracted(), "ledgers")))
    base = CognitionBase(TOY, own)
    assert base.recall("ledger", 1)[0].id == "ledgers/1"
    path.write_text("title = ")
    assert base.recall("faded ledger of keys", 1)[0].id == "ledgers/1"
    path.write_text(to_toml(cognitions_of(extracted(title="A ledger mended after all"), "ledgers")))
    assert base.recall("ledger", 1)[0].title == "A ledger mended after all"
    path.unlink()
    assert "ledgers/1" not in {c.id for c in base.all()}
    (own / "2006.08195.toml").write_text((TOY / "2006.08195.toml").read_text())
    with pytest.raises(SetupError, match=r"the space knows 2006\.08195 already"):
        CognitionBase(TOY, own)


def test_letters_and_digits_alone_are_compared():
    assert squeezed("Eﬃ-\ncient  S_t = 0.5!") == "efficientst05"
    assert load_space("toy").name == "toy"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("show", "2412.0646/1"), "nothing is known as '2412.0646/1'; the nearest are 2412.06464/1"),
        (("show", "2412.0646"), "the nearest are 2412.06464"),
        (("list", "--theme", "decays"), "no theme 'decays'; there are convolution, decay"),
        (("list", "--year", "1999"), "nothing is known of 1999; there are papers of 2015 to"),
        (("list", "--paper", "1.2"), "nothing is known as '1.2'"),
        (("search", "qwertz"), "nothing is known of 'qwertz'"),
        (("search", "decay", "--set", "embedding=loca"), "write none, local, or openai:NAME"),
        (("show", "x", "--study", "s", "--space", "toy"), "leave out --space, or --study"),
        (("learn", "--study", "s"), "no study in s"),
        (("confirm", "x/1", "--study", "s"), "no study in s"),
    ],
)
def test_a_user_s_fault_is_one_line_that_names_what_is_near(tmp_path, words, expected):
    done = asi_arch(*words, cwd=tmp_path)
    assert done.returncode == 2
    fault = done.stderr.splitlines()[-1]
    assert fault.startswith("asi-arch: ")
    assert expected in fault
    assert "Traceback" not in done.stderr


def test_a_broken_file_of_its_own_stops_a_study_at_the_start_and_loses_nothing(study):
    (study / "cognition").mkdir()
    (study / "cognition" / "mine.toml").write_text('name = "mine"\ntitle = "t"\nyear = 2024\n')
    opened = toy_study(study, experiments=1)
    with pytest.raises(SetupError, match=r"mine\.toml: cognition: missing"):
        opened.run()
    linked = to_toml(cognitions_of(extracted(moves=("add_waves",)), "mine"))
    (study / "cognition" / "mine.toml").write_text(linked)
    with pytest.raises(SetupError, match=r"mine\.toml: cognition\[1\]\.moves: 'add_waves' is no move"):
        opened.run()
    (study / "cognition" / "mine.toml").unlink()
    opened.run()
    assert len(opened.archive.experiments("candidate")) == 1
    opened.close()
