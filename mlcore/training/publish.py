"""From a trained model to a bundle: weights in float16 or int8, the bundle's own examples answered by what ships."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mlcore import task
from mlcore.bundle import SCALE, Bundle, quantise
from mlcore.predictor import Predictor

TOLERANCE = 2e-3  # of numbers in a self-test: products are rounded differently on other machines


def write_bundle(
    path: Path,
    model: nn.Module,
    *,
    manifest: Mapping[str, Any],
    files: Mapping[str, bytes],
    dtype: type[np.floating[Any]] = np.float16,
    int8: Collection[str] = (),
) -> Bundle:
    """Write the model as a bundle, matrices named in `int8` so; `manifest` lacks config, which is the model's own."""
    config: Any = model.config
    if unknown := set(int8) - set(model.state_dict()):
        raise ValueError(f"The model has no {', '.join(sorted(unknown))} to be stored as int8.")
    weights: dict[str, NDArray[Any]] = {}
    for name, value in model.state_dict().items():
        exact = value.detach().cpu().float().numpy()
        if name in int8:
            weights[name], weights[name + SCALE] = quantise(exact)
        else:
            weights[name] = exact.astype(dtype)
    whole = {**manifest, "config": dataclasses.asdict(config)}
    return Bundle.write(path, manifest=whole, weights=weights, files=files)


def stored_examples(predictor: Predictor) -> dict[str, bytes]:
    """examples.json, the task's demo requests with the answers of this bundle, and under examples/ their files."""
    spec = task.get(predictor.bundle.task)
    requests = [
        dict(zip(("inputs", "options"), spec.clean(example.inputs, spec.for_self_test(example.options)), strict=True))
        for example in spec.examples
    ]
    answers = list(predictor.predict(requests))
    files: dict[str, bytes] = {}
    for request in requests:
        for name in spec.file_inputs:
            if request["inputs"][name] is None:
                continue
            source = Path(request["inputs"][name])
            request["inputs"] = {**request["inputs"], name: f"examples/{source.name}"}
            files[f"examples/{source.name}"] = source.read_bytes()
    examples = [{**request, **answer} for request, answer in zip(requests, answers, strict=True)]
    stored = json.dumps({"tolerance": TOLERANCE, "examples": examples}, indent=1, ensure_ascii=False)
    return {"examples.json": stored.encode(), **files}


def finish(
    draft: Bundle, path: Path, model: nn.Module, *, extra: Mapping[str, bytes], int8: Collection[str] = ()
) -> Bundle:
    """Write the draft again with what could only be made from it: its examples, metrics and card."""
    derived = ("format", "config", "tensors", "digests")
    manifest = {key: value for key, value in draft.manifest.items() if key not in derived}
    files = {name: draft.read(name) for name in draft.manifest["digests"] if name != "weights.safetensors"}
    files |= {**stored_examples(Predictor(draft)), **extra}
    return write_bundle(path, model, manifest=manifest, files=files, int8=int8)
