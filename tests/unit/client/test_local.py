from __future__ import annotations

from libs.client.local import LocalOptions, LocalStack


def test_a_gateway_with_a_certificate_is_at_wss_and_https() -> None:
    stack = LocalStack(LocalOptions(nats_url="nats://127.0.0.1", gateway_port=1, environ={"TLS_CERT_FILE": "x.pem"}))
    stack.folder.rmdir()
    stack._plan()
    assert (stack.ws_url, stack.page_url) == ("wss://127.0.0.1:1/ws", "https://127.0.0.1:1/")
    [gateway] = stack.processes("gateway")
    assert gateway.ready_url == f"http://127.0.0.1:{gateway.environ['HEALTH_PORT']}/readyz"


def test_one_without_is_not() -> None:
    stack = LocalStack(LocalOptions(nats_url="nats://127.0.0.1", gateway_port=1))
    stack.folder.rmdir()
    stack._plan()
    assert (stack.ws_url, stack.page_url) == ("ws://127.0.0.1:1/ws", "http://127.0.0.1:1/")
    assert stack.processes("gateway")[0].ready_url == "http://127.0.0.1:1/readyz"
