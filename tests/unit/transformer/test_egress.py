import pytest

from services.transformer.egress import Allowed, same_host_target

SIG = "737c64f1ec9401ae9d71c55877e9a129"


@pytest.mark.parametrize(
    "url",
    [
        "https://v1.pinimg.com/x.mp4",
        "https://PINIMG.com/x.mp4",
        "http://v.pinimg.com:8080/x.mp4",
        "http://127.0.0.1:8800/x.mp4",
        "https://cdn.example/x.mp4",
    ],
)
def test_allowed_hosts_are_suffixes_or_exact_with_their_port(url: str) -> None:
    assert url in Allowed(["pinimg.com", "127.0.0.1:8800", "cdn.example:443"])


@pytest.mark.parametrize(
    "url",
    [
        "https://notpinimg.com/x.mp4",
        "https://pinimg.com.evil.example/x.mp4",
        "https://v1.pinimg.com@evil.example/x.mp4",
        "https://user:secret@v1.pinimg.com/x.mp4",
        "http://evil.example\\@v1.pinimg.com/x.mp4",
        "http://127.0.0.1:8801/x.mp4",
        "http://127.0.0.1/x.mp4",
        "http://sub.127.0.0.1:8800/x.mp4",
        "http://cdn.example/x.mp4",
        "file:///etc/passwd",
        "ftp://v1.pinimg.com/x.mp4",
        "//v1.pinimg.com/x.mp4",
        "https://[::1]/x.mp4",
        "http://169.254.169.254/latest",
        "https://v1.pinimg.com:bad/x.mp4",
        "",
    ],
)
def test_anything_else_is_not_allowed(url: str) -> None:
    assert url not in Allowed(["pinimg.com", "127.0.0.1:8800", "cdn.example:443"])


def test_redirects_stay_on_the_host_and_with_the_video() -> None:
    url = f"https://v1.pinimg.com/a/{SIG}.mp4"
    assert same_host_target(url, f"/b/{SIG}.mp4") == f"https://v1.pinimg.com/b/{SIG}.mp4"
    assert same_host_target(url, f"https://v2.pinimg.com/b/{SIG}.mp4") is None
    assert same_host_target(url, "/placeholder.mp4") is None
    assert same_host_target(url, None) is None
