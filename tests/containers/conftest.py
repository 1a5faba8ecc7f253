"""The system in containers, once for all tests here; they are skipped where containers cannot be run."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from libs.client.broker import free_port
from tests.containers.engine import Project, lacking, running

BUILD_S = 1800  # of all images, Chromium's packages among them, where none was built before


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(__file__.rpartition("/")[0]):
            item.add_marker(pytest.mark.timeout(BUILD_S))


@pytest.fixture(scope="session")
def project() -> Iterator[Project]:
    """docker-compose.yml, running."""
    if why := lacking():
        pytest.skip(f"containers cannot be run here: {why}")
    with running(f"pinstream-test-{secrets.token_hex(4)}", {"PUBLISH": f"127.0.0.1:{free_port()}"}) as project:
        yield project
