"""The registry of architectures (name -> module), and the legend of shapes.

Shapes: B rows of a batch, T time steps (tokens), E embedding width, H hidden width of one direction,
C classes, V vocabulary. Tensors are batch first; `lengths` (B,) stands beside every padded tensor; a mask
is True where real.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from mlcore.errors import BundleError

# Each module holds `Config` (a frozen dataclass), `Model(Config)` and, if it answers step by step, its `Engine`;
# imported on first use.
MODELS: dict[str, str] = {
    "attention-captioner": "mlcore.models.attention_captioner",
    "attention-translator": "mlcore.models.attention_translator",
    "lstm-classifier": "mlcore.models.lstm_classifier",
    "lstm-language-model": "mlcore.models.lstm_language_model",
    "rnn-tagger": "mlcore.models.rnn_tagger",
}


def resolve(name: str) -> ModuleType:
    """The module of an architecture; BundleError names the known ones."""
    if name not in MODELS:
        raise BundleError(f"Unknown model {name!r}. This version knows: {', '.join(sorted(MODELS))}.")
    return importlib.import_module(MODELS[name])
