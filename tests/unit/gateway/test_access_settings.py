from __future__ import annotations

from pathlib import Path

import pytest

from libs.common.errors import BadSetting, StartFailed
from libs.common.redaction import redacted
from libs.common.settings import from_environment
from services.gateway.access_settings import check_exposure
from services.gateway.settings import GatewaySettings


def settings(**environ: str) -> GatewaySettings:
    return from_environment(GatewaySettings, environ)


@pytest.mark.parametrize(
    ("environ", "allowed"),
    [
        ({}, True),
        ({"GATEWAY_HOST": "::1"}, True),
        ({"GATEWAY_HOST": "localhost"}, True),
        ({"GATEWAY_HOST": "0.0.0.0"}, False),
        ({"GATEWAY_HOST": "::"}, False),
        ({"GATEWAY_HOST": "10.0.0.7"}, False),
        ({"ANONYMOUS": "no"}, False),
        ({"TRUSTED_PROXIES": "127.0.0.1"}, False),
        ({"GATEWAY_HOST": "0.0.0.0", "ANONYMOUS": "yes"}, True),
    ],
)
def test_who_has_no_key_may_search_where_only_this_machine_can_connect(environ: dict[str, str], allowed: bool) -> None:
    assert settings(**environ).anonymous_allowed is allowed


def test_an_open_gateway_that_others_can_reach_needs_tls_or_a_proxy(tmp_path: Path) -> None:
    public = {"GATEWAY_HOST": "0.0.0.0", "ANONYMOUS": "yes"}
    with pytest.raises(StartFailed, match="TLS_CERT_FILE"):
        check_exposure(settings(**public))
    file = tmp_path / "x.pem"
    file.touch()
    check_exposure(settings(**public, TLS_CERT_FILE=str(file), TLS_KEY_FILE=str(file)))
    check_exposure(settings(**public, TRUSTED_PROXIES="10.0.0.0/8"))
    check_exposure(settings(GATEWAY_HOST="0.0.0.0"))
    check_exposure(settings())


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"TLS_CERT_FILE": "/nowhere.pem"}, "TLS_CERT_FILE"),
        ({"ALLOWED_ORIGINS": "*"}, "ALLOWED_ORIGINS"),
        ({"ALLOWED_ORIGINS": "https://app.example/page"}, "ALLOWED_ORIGINS"),
        ({"TRUSTED_PROXIES": "*"}, "TRUSTED_PROXIES"),
        ({"JWT_ALGORITHMS": "none"}, "JWT_ALGORITHMS"),
        ({"JWKS_URL": "http://issuer.example/jwks"}, "JWKS_URL"),
        ({"JWKS_URL": "https://issuer.example/jwks"}, "JWT_ISSUER"),
        ({"ANONYMOUS": "maybe"}, "ANONYMOUS"),
    ],
)
def test_what_would_open_a_door_unseen_is_refused_by_name(environ: dict[str, str], named: str) -> None:
    with pytest.raises(BadSetting, match=named):
        settings(**environ)


def test_secrets_are_taken_out_of_a_line_wherever_they_stand() -> None:
    key = "ps_0123456789abcdef_" + "k" * 43
    ticket = "pst_" + "t" * 43
    token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJtaWEifQ.c2ln"
    line = f'GET /ws?ticket={ticket}&x="{key}" Authorization: Bearer opaque-thing pinstream.bearer.{token}, done'
    assert redacted(line) == (
        'GET /ws?ticket=pst_…&x="ps_0123456789abcdef_…" Authorization: Bearer … pinstream.bearer.eyJ…, done'
    )
