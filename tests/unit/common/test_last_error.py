from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from libs.common import last_error as module
from libs.common.last_error import last_error
from libs.common.settings import Settings
from libs.common.telemetry import set_up_logs


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    before, root = list(module._last), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    module._last.clear()
    set_up_logs(Settings(), "test")
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    module._last[:] = before


def said() -> str | None:
    found = last_error()
    return None if found is None else found.message


def test_the_last_error_of_the_log_is_remembered_with_its_reason() -> None:
    log = structlog.get_logger()
    log.warning("a warning", error="of nothing")
    assert said() is None
    log.error("the browser cannot be started", why="no Chromium", session="0" * 32)
    assert said() == "the browser cannot be started: no Chromium"
    log.info("all is well")
    assert said() == "the browser cannot be started: no Chromium"


def test_an_exception_is_told_by_its_sentence_whoever_logs_it() -> None:
    try:
        raise ValueError("7 is no name")
    except ValueError as error:
        structlog.get_logger().error("stopped", exc_info=error)
        assert said() == "stopped: ValueError: 7 is no name"
        structlog.get_logger().exception("stopped again")
        assert said() == "stopped again: ValueError: 7 is no name"
        logging.getLogger("uvicorn.error").exception("in a library")
    assert said() == "in a library: ValueError: 7 is no name"
