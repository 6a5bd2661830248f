"""A pasted or uploaded list of texts, for the batch box."""

from __future__ import annotations

import csv
import io
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from mlcore.errors import InvalidInput

MAX_BYTES = 5 << 20
FIELD = "lines"
_SIGNS = {",": "commas", ";": "semicolons", "\t": "tabs"}  # between columns


def read_texts(pasted: str, upload: UploadedFile[Any] | None, *, column: str) -> list[str]:
    """One text a line of what was pasted, or of a .txt, or a row of a .csv with a column of that name."""
    texts = _read_file(upload, column) if upload is not None else pasted.splitlines()
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise InvalidInput(FIELD, "There are no lines yet. Paste some, one text a line, or choose a file.")
    if len(texts) > settings.MAX_BATCH_ITEMS:
        raise InvalidInput(
            FIELD,
            f"These are {len(texts):,} lines; at most {settings.MAX_BATCH_ITEMS:,} are read. Send the rest apart.",
        )
    return texts


def _read_file(upload: UploadedFile[Any], column: str) -> list[str]:
    name = (upload.name or "").lower()
    if not name.endswith((".txt", ".csv")):
        raise InvalidInput(FIELD, "Choose a .txt file with one text a line, or a .csv file.")
    if (upload.size or 0) > MAX_BYTES:
        raise InvalidInput(FIELD, f"The file is larger than {MAX_BYTES >> 20} MB. Split it.")
    try:
        text = upload.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput(FIELD, "The file is not text in UTF-8. Save it as UTF-8 and send it again.") from None
    if "\0" in text:
        raise InvalidInput(FIELD, "The file is binary, not text. Choose a .txt or .csv file.")
    return _read_csv(text, column) if name.endswith(".csv") else text.splitlines()


def _read_csv(text: str, column: str) -> list[str]:
    """The column's cells; the delimiter is the one that the first row has the column with, quotes are doubled ones."""
    found: list[str] = []
    try:
        for delimiter in _SIGNS:
            rows = csv.DictReader(
                io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
            )
            names = [str(name) for name in rows.fieldnames or []]
            if column in names:
                return [_cell(row, column, f"Line {rows.line_num}", delimiter) for row in rows]
            found = max(found, names, key=len)
    except csv.Error as error:
        raise InvalidInput(FIELD, f"The CSV cannot be read: {error}.") from error
    shown = ", ".join(name[:30] for name in found[:8]) or "none"
    raise InvalidInput(FIELD, f"The file has no column “{column}”. Its columns: {shown}.")


def _cell(row: dict[Any, Any], column: str, line: str, delimiter: str) -> str:
    if any(row.get(None) or []):  # what stands behind the last column would be lost, and mostly it is half a text
        raise InvalidInput(
            FIELD,
            f"{line} has more columns than the first. Put double quotes around a text with {_SIGNS[delimiter]} in it.",
        )
    return row[column] or ""
