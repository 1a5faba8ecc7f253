from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from libs.common.health import health_server
from libs.common.probe import probe
from libs.common.settings import Settings

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("ready", "said"), [(True, ""), (False, '503 Service Unavailable: {"loop":false}')])
async def test_a_service_is_healthy_when_it_is_ready(unused_port: int, ready: bool, said: str) -> None:
    async with health_server(Settings(health_port=unused_port), 0, {"loop": lambda: ready}):
        assert await asyncio.to_thread(probe, unused_port) == said
        assert await asyncio.to_thread(probe, unused_port, "/healthz") == ""


async def test_the_command_takes_the_name_of_a_variable_and_fails_with_a_word(unused_port: int) -> None:
    command = [sys.executable, "-m", "libs.common.probe", "HEALTH_PORT"]
    environ = {"HEALTH_PORT": str(unused_port)}

    def asked() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)

    nobody = await asyncio.to_thread(asked)
    assert nobody.returncode == 1
    assert f"port {unused_port} does not answer" in nobody.stderr
    async with health_server(Settings(health_port=unused_port), 0, {}):
        assert (await asyncio.to_thread(asked)).returncode == 0
