"""Requests made up from the OpenAPI document, against the running product: no answer may be a 5xx."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from webapp.api.routes import api

from .conftest import Stack, web

# schemathesis' own pytest plugin does not know pytest 9: the operations are listed here instead
SCHEMA = schemathesis.openapi.from_dict(api.get_openapi_schema(path_prefix="/api/v1/"))
OPERATIONS = {operation.ok().label: operation.ok() for operation in SCHEMA.get_all_operations()}
CASES = [
    (label, mode)
    for label, operation in OPERATIONS.items()
    for mode in GenerationMode
    # what takes nothing cannot be given anything wrong
    if mode is GenerationMode.POSITIVE or operation.body or list(operation.iter_parameters())
]
CHECKS = [not_a_server_error, content_type_conformance, status_code_conformance]


def test_the_whole_api_is_fuzzed(stack: Stack) -> None:
    published = web.get(f"{stack.url}/api/v1/openapi.json").json()
    described = {f"{method.upper()} {path}" for path, entry in published["paths"].items() for method in entry}
    assert set(OPERATIONS) == described
    assert len(described) >= 12


@pytest.mark.parametrize(("label", "mode"), CASES)
def test_no_request_brings_the_api_down(label: str, mode: GenerationMode, stack: Stack) -> None:
    @given(data=st.data())
    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
    def fuzz(data: Any) -> None:
        case = data.draw(OPERATIONS[label].as_strategy(generation_mode=mode))
        case.call_and_validate(base_url=stack.url, checks=CHECKS, timeout=40)

    fuzz()


def test_the_product_still_answers_after_the_fuzzing(stack: Stack) -> None:
    assert web.get(f"{stack.url}/healthz/ready").status_code == 200
    assert stack.finish(stack.post("Still here."))["status"] == "succeeded"
