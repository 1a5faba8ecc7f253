from __future__ import annotations

from libs.common.subjects import TOKEN
from services.gateway.callers import ANONYMOUS, STRANGER, Caller
from services.gateway.filters import SCOPE


def test_a_session_is_its_owners_alone_and_one_of_nobody_is_for_who_knows_its_id() -> None:
    mia, leo = Caller(owner="key:mia"), Caller(owner="key:leo")
    assert mia.may_see("key:mia") and not mia.may_see("key:leo") and not ANONYMOUS.may_see("key:mia")
    assert mia.may_see("") and leo.may_see("") and ANONYMOUS.may_see("")
    assert not STRANGER.may_see("") and not STRANGER.may_see("key:mia")


def test_scopes_of_one_name_are_different_ones_to_different_owners() -> None:
    mia, leo = Caller(owner="key:mia"), Caller(owner="jwt:https://issuer.example:leo")
    assert mia.scope("daily") != leo.scope("daily") != ANONYMOUS.scope("daily") == "daily"
    assert mia.scope("daily") == Caller(owner="key:mia", key="another").scope("daily")
    longest = "x" * 64
    assert SCOPE.fullmatch(longest) and TOKEN.fullmatch(mia.scope(longest))
