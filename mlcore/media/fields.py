"""Fields that are files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mlcore.errors import InvalidInput
from mlcore.fields import Field, kind_of


@dataclass(frozen=True, kw_only=True)
class FileField(Field):
    """A file: a path for the command line, the id of an upload for the server; a task gets a local path of it."""

    media: ClassVar[str]  # what kind of file
    noun: ClassVar[str]

    def check(self, name: str, value: Any) -> str:
        """Refuse what cannot name a file."""
        if not isinstance(value, str):
            raise InvalidInput(name, f"“{self.title or name}” must name {self.noun}, not {kind_of(value)}.")
        if not value.strip() or len(value) > 4096 or "\0" in value:
            raise InvalidInput(name, f"“{self.title or name}” names no file: 1 to 4,096 characters, none of them NUL.")
        return value

    def schema(self) -> dict[str, Any]:
        """JSON Schema: a string, or the bytes themselves, which the server stores as an upload first."""
        named = {"type": "string", "minLength": 1, "maxLength": 4096}
        inside: dict[str, Any] = {
            "type": "object",
            "properties": {
                "base64": {"type": "string", "contentEncoding": "base64"},
                "name": {"type": "string", "maxLength": 200},
            },
            "required": ["base64"],
        }
        return {**super().schema(), "anyOf": [named, {**inside, "additionalProperties": False}]}


@dataclass(frozen=True, kw_only=True)
class Image(FileField):
    """A photo; what is in the file is checked when it is decoded (`mlcore.media.image`)."""

    media: ClassVar[str] = "image"
    noun: ClassVar[str] = "a photo"


@dataclass(frozen=True, kw_only=True)
class Document(FileField):
    """A text document; what is in it is checked when it is read (`mlcore.media.document`)."""

    media: ClassVar[str] = "document"
    noun: ClassVar[str] = "a document"
