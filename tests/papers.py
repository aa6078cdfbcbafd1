"""Papers of our own as files: a two-column PDF with formulas, and PDFs that nothing can be read from."""

from pathlib import Path
from typing import Any

TITLE = "Leaky Ledgers: a memory that books what it forgets"
ABSTRACT = (
    "Recurrent memories lose the bindings of early tokens when a decay is applied to every key alike. "
    "We book each key's erasure in a ledger of its own and return part of it when the key is read again."
)
LEFT = (
    "1 Introduction. A state of fixed size must forget. Scalar decay forgets everything at one pace, and "
    "so the accuracy on pairs that stand far apart falls although room is left in the state.",
    "Let S be the state and g the log decay of a token. The usual update is S_t = exp(g_t) S_{t-1} + k_t "
    "v_t^T.",
    "What it loses is never known to the reader, which cannot tell an empty slot from a faded one.",
)
RIGHT = (
    "2 Method. The ledger L_t = L_{t-1} + (1 - exp(g_t)) |k_t| keeps a running sum for each key channel.",
    "The read becomes o_t = S_t^T (q_t * (1 + a L_t)), where a is one learned number for each head that "
    "starts at zero.",
    "3 Results. On sixteen pairs at a distance of two thousand tokens accuracy rises from 0.41 to 0.68 "
    "with the same state, and text stays within noise. At twice the distance the gain is gone.",
)
PIECE = {
    "title": "Keep a ledger of what each key channel has lost and scale the query by it",
    "trigger": "Recall accuracy of pairs that stand far apart is low although the state has room: one "
    "decay fades all keys and faded entries read like empty ones.",
    "background": "Fading at a single pace hides which channels still hold something; telling the reader "
    "how much has gone lets it turn weak answers up.",
    "method": "L_t = L_{t-1} + (1 - exp(g_t)) |k_t| ; o_t = S_t^T (q_t (1 + a L_t))",
    "implementation": "Carry L [B, H, K] beside the state of `scalar_decay_rule`, add to it once a token, "
    "and multiply q before the read; a [H] starts at 0 so that the parent is kept.",
    "effect": "Its authors give 0.68 against 0.41 at sixteen pairs and two thousand tokens; beyond four "
    "thousand nothing is won.",
    "quotes": [
        {"page": 1, "text": "cannot tell an empty slot from a faded"},
        {"page": 1, "text": "accuracy rises from 0.41 to 0.68"},
    ],
}
ANSWER: dict[str, Any] = {"title": TITLE, "year": 2026, "authors": ["A. Clerk"], "cognitions": [PIECE]}


def write_paper(path: Path, pages: int = 1) -> Path:
    """Write the paper as a PDF with two columns; further pages repeat a line with their number."""
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import (
        BaseDocTemplate,
        Frame,
        NextPageTemplate,
        PageBreak,
        PageTemplate,
        Paragraph,
    )

    width, height = A4
    body = getSampleStyleSheet()["BodyText"]
    half = (width - 120) / 2
    frames = [
        Frame(50, 50, half, height - 220, id="left"),
        Frame(70 + half, 50, half, height - 220, id="right"),
    ]
    head = Frame(50, height - 170, width - 100, 130, id="head")
    document = BaseDocTemplate(str(path), pagesize=A4)
    document.addPageTemplates(
        [PageTemplate(id="first", frames=[head, *frames]), PageTemplate(id="later", frames=frames)]
    )
    story: list[Any] = [Paragraph(TITLE, getSampleStyleSheet()["Title"]), Paragraph(ABSTRACT, body)]
    from reportlab.platypus import FrameBreak

    story += [FrameBreak(), *(Paragraph(text, body) for text in LEFT)]
    story += [FrameBreak(), *(Paragraph(text, body) for text in RIGHT)]
    for number in range(2, pages + 1):
        story += [NextPageTemplate("later"), PageBreak(), Paragraph(f"Appendix on page {number}.", body)]
    document.build(story)
    return path


def write_scan(path: Path, pages: int = 3) -> Path:
    """Write a PDF whose pages are pictures without text."""
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path))
    for _ in range(pages):
        canvas.rect(100, 100, 300, 500, fill=1)
        canvas.showPage()
    canvas.save()
    return path
