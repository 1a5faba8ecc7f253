from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import pytest
from msgspec import Meta

from libs.common.errors import BadSetting
from libs.common.settings import (
    Settings,
    UpstreamSettings,
    describe,
    environment_of,
    from_environment,
    without_password,
)

SERVICES = ["services.gateway", "services.crawler", "services.transformer", "services.dedup", "libs.common.streams"]


def test_defaults_work_and_lists_are_split() -> None:
    assert from_environment(UpstreamSettings, {}).site_url == "https://www.pinterest.com"
    found = from_environment(UpstreamSettings, {"MEDIA_HOSTS": "pinimg.com, 127.0.0.1:8800", "SITE_URL": ""})
    assert found.media_hosts == ("pinimg.com", "127.0.0.1:8800")
    assert found.site_url == "https://www.pinterest.com"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEALTH_PORT", "many"),
        ("HEALTH_PORT", "70000"),
        ("LOG_LEVEL", "LOUD"),
        ("DRAIN_TIMEOUT_S", "0"),
        ("SITE_URL", "pinterest"),
        ("UPSTREAM_PROXY", "socks5://x"),
        ("UPSTREAM_CA_FILE", "/no/such/file.pem"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=name):
        from_environment(UpstreamSettings, {name: value})


class _Switch(Settings, frozen=True, kw_only=True):
    switch: Annotated[bool, Meta(description="something that is on or off")] = False


@pytest.mark.parametrize(("word", "on"), [("yes", True), ("True", True), ("1", True), ("no", False), ("off", False)])
def test_a_switch_is_turned_by_the_usual_words(word: str, on: bool) -> None:
    assert from_environment(_Switch, {"SWITCH": word}).switch is on


def test_another_word_for_a_switch_is_refused_by_its_name() -> None:
    with pytest.raises(BadSetting, match="SWITCH: 'maybe' is neither yes nor no"):
        from_environment(_Switch, {"SWITCH": "maybe"})


def test_every_setting_is_described() -> None:
    for line in describe(UpstreamSettings, "x", "y").split("\n  "):
        assert "\n      \n" not in line
    assert "NATS_URL" in describe(Settings, "x", "y")


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_lists_its_settings(service: str) -> None:
    help_ = subprocess.run([sys.executable, "-m", service, "--help"], capture_output=True, text=True, check=True)
    assert "NATS_URL" in help_.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_with_a_bad_setting_exits_with_78_and_names_it(service: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", service],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HEALTH_PORT": "x"},
    )
    assert done.returncode == 78
    assert "HEALTH_PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_service_without_a_broker_exits_with_69_and_says_what_to_do() -> None:
    environ = {**os.environ, "NATS_URL": "nats://127.0.0.1:1", "GATEWAY_PORT": "0"}
    started = [
        subprocess.Popen([sys.executable, "-m", service], stderr=subprocess.PIPE, text=True, env=environ)
        for service in SERVICES
    ]
    for service, process in zip(SERVICES, started, strict=True):
        _, said = process.communicate(timeout=60)
        assert process.returncode == 69, f"{service}: {said}"
        assert "set NATS_URL" in said
        assert "Traceback" not in said


@pytest.mark.parametrize(
    ("urls", "shown"),
    [
        ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ("nats://user:secret@one:4222, nats://token@two:4222", "nats://one:4222,nats://two:4222"),
        ("user:secret@one:4222", "one:4222"),
        ("one:4222", "one:4222"),
    ],
)
def test_no_password_is_shown(urls: str, shown: str) -> None:
    assert without_password(urls) == shown


def test_a_child_process_can_be_given_the_same_settings() -> None:
    settings = UpstreamSettings(nats_url="nats://b:1", media_hosts=("a", "b:1"), drain_timeout_s=2.5)
    assert from_environment(UpstreamSettings, environment_of(settings)) == settings
