"""What a close code tells a client that does not know it: 4000 to 4499 come back, 4500 to 4999 do not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import services.gateway
from libs.client.client import FOR_GOOD_CODES
from libs.common.frames import CloseCode

ROOT = Path(__file__).parents[3]
OWN_CODES = range(4000, 5000)
CODES = {name: code for name, code in vars(CloseCode).items() if name.isupper()}
COME_BACK = {"SLOW_CONSUMER", "DRAINING", "UNAVAILABLE", "RATE_LIMITED"}
STAY_AWAY = {"TOKEN_REFUSED", "FORBIDDEN_ORIGIN"}
STANDARD = {"INTERNAL_ERROR"}


def test_each_code_lies_in_the_range_of_what_its_client_should_do() -> None:
    assert set(CODES) == COME_BACK | STAY_AWAY | STANDARD
    assert all(4000 <= CODES[name] < 4500 for name in COME_BACK)
    assert all(4500 <= CODES[name] < 5000 for name in STAY_AWAY)
    assert not any(CODES[name] in OWN_CODES for name in STANDARD)
    assert len(set(CODES.values())) == len(CODES)


def test_the_client_library_knows_the_range_and_no_code() -> None:
    assert range(4500, 5000) == FOR_GOOD_CODES


def test_no_code_is_spelled_in_the_gateway_itself() -> None:
    spelled = {
        f"{path.name}:{node.lineno}"
        for path in Path(services.gateway.__path__[0]).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and type(node.value) is int and node.value in OWN_CODES
    }
    assert not spelled


def test_the_documents_have_every_code() -> None:
    told = (ROOT / "docs/messages.md").read_text()
    table = told[told.index("### Closes") :]
    assert {int(code) for code in re.findall(r"^\| (4\d{3}) \|", table, re.MULTILINE)} == {
        code for code in CODES.values() if code in OWN_CODES
    }
    assert "4000 to 4499" in table
    assert "4500 to 4999" in table
