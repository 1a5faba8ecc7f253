"""Settings: one frozen type per service, read from the environment; a variable's name is its field's in capitals."""

from __future__ import annotations

import os
import re
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from libs.common.errors import BadSetting
from libs.common.exit_codes import EX_CONFIG
from libs.common.source import DEFAULT_SITE

Port = Annotated[int, Meta(ge=0, le=65535)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What every service is told. Every default works on a laptop."""

    nats_url: Annotated[str, Meta(description="servers of the broker, comma-separated")] = "nats://127.0.0.1:4222"
    nats_user: Annotated[str | None, Meta(description="user name for the broker")] = None
    nats_password: Annotated[str | None, Meta(description="password for the broker")] = None
    nats_nkey_file: Annotated[str | None, Meta(description="file of the nkey seed that this service is known by")] = (
        None
    )
    nats_ca_file: Annotated[
        str | None, Meta(description="PEM file of the authorities that the broker's certificate is checked by")
    ] = None
    nats_cert_file: Annotated[
        str | None, Meta(description="PEM file of this service's own certificate, where the broker asks for one")
    ] = None
    nats_key_file: Annotated[str | None, Meta(description="PEM file of that certificate's key")] = None
    replica_name: Annotated[
        str | None, Meta(description="what this replica is called where all are listed; unset: the host's name")
    ] = None
    health_host: Annotated[str, Meta(description="address that /healthz, /readyz and /metrics listen on")] = "127.0.0.1"
    health_port: Annotated[
        Port | None,
        Meta(description="port of /healthz, /readyz and /metrics; unset: the usual one, or a free one if taken"),
    ] = None
    log_level: Annotated[
        typing.Literal["DEBUG", "INFO", "WARNING", "ERROR"], Meta(description="least severe log line written")
    ] = "INFO"
    log_format: Annotated[
        typing.Literal["json", "console"], Meta(description="one JSON object a line, or lines for people")
    ] = "json"
    otel_exporter_otlp_endpoint: Annotated[
        str | None,
        Meta(description="where traces and metrics go by OTLP over HTTP; unset: nowhere (other OTEL_* apply too)"),
    ] = None
    otel_metrics_exporter: Annotated[
        typing.Literal["otlp", "none"],
        Meta(description="whether metrics go there too; /metrics has them in any case"),
    ] = "otlp"
    traced_sessions: Annotated[
        float, Meta(ge=0, le=1, description="share of sessions that are traced; OTEL_TRACES_SAMPLER goes before it")
    ] = 1.0
    drain_timeout_s: Annotated[
        float, Meta(gt=0, description="how long work in flight may take to finish after SIGTERM")
    ] = 10.0

    def __post_init__(self) -> None:
        for name in ("nats_nkey_file", "nats_ca_file", "nats_cert_file", "nats_key_file"):
            _check_file(name, getattr(self, name))
        if (self.nats_cert_file is None) != (self.nats_key_file is None):
            raise ValueError("NATS_CERT_FILE and NATS_KEY_FILE: one without the other is of no use")
        if self.nats_password is not None and self.nats_user is None:
            raise ValueError("NATS_PASSWORD: it is of no use without NATS_USER")

    @property
    def nats_tls(self) -> bool:
        """Whether the broker is spoken to by TLS alone."""
        return "tls://" in self.nats_url or bool(self.nats_ca_file or self.nats_cert_file)


class SiteSettings(Settings, frozen=True, kw_only=True):
    """What services that know of the site are told besides."""

    site_url: Annotated[str, Meta(description="origin of the site")] = DEFAULT_SITE

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_address("site_url", self.site_url)


class UpstreamSettings(SiteSettings, frozen=True, kw_only=True):
    """What services that make requests to the site are told besides."""

    media_hosts: Annotated[
        tuple[str, ...],
        Meta(description="host suffixes that media may be on, comma-separated; host:port to be exact"),
    ] = ("pinimg.com",)
    upstream_proxy: Annotated[
        str | None,
        Meta(description="HTTP proxy for every request that leaves, such as http://127.0.0.1:3128"),
    ] = None
    upstream_ca_file: Annotated[
        str | None, Meta(description="PEM file of further certificate authorities to trust upstream")
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.upstream_proxy is not None:
            _check_address("upstream_proxy", self.upstream_proxy)
        _check_file("upstream_ca_file", self.upstream_ca_file)


def _check_file(name: str, path: str | None) -> None:
    if path is None:
        return
    if not Path(path).is_file():
        raise ValueError(f"{name.upper()}: {path!r} is not a file")
    if not os.access(path, os.R_OK):
        raise ValueError(f"{name.upper()}: {path!r} may not be read by this user")


def _check_address(name: str, value: str) -> None:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{name.upper()}: {value!r} is not an address such as {DEFAULT_SITE}")


def without_password(urls: str) -> str:
    """Server addresses as they may be shown."""
    return ",".join(re.sub(r"(?<=://)[^@/]*@|^[^@/:]*:[^@/]*@", "", url.strip()) for url in urls.split(","))


S = TypeVar("S", bound=Settings)
YES, NO = ("yes", "true", "on", "1"), ("no", "false", "off", "0")


def from_environment(type_: type[S], environ: Mapping[str, str]) -> S:
    """The settings of `type_`; raises BadSetting, naming the variable. An empty variable counts as unset."""
    fields = {field.name: field for field in msgspec.structs.fields(type_)}
    values: dict[str, Any] = {}
    for name, field in fields.items():
        text = environ.get(name.upper(), "")
        if not text:
            continue
        hint = msgspec.inspect.type_info(field.type)
        while isinstance(hint, msgspec.inspect.Metadata):
            hint = hint.type
        if isinstance(hint, msgspec.inspect.VarTupleType):
            values[name] = tuple(part.strip() for part in text.split(",") if part.strip())
        elif isinstance(hint, msgspec.inspect.BoolType):
            values[name] = _yes_or_no(name, text)
        else:
            values[name] = text
    try:
        return msgspec.convert(values, type_, strict=False)
    except msgspec.ValidationError as error:
        text = str(error)
        for name in fields:
            text = text.replace(f"$.{name}", name.upper())
        raise BadSetting(text) from error


def _yes_or_no(name: str, text: str) -> bool:
    word = text.strip().lower()
    if word not in YES + NO:
        raise BadSetting(f"{name.upper()}: {text!r} is neither yes nor no")
    return word in YES


def describe(type_: type[Settings], program: str, summary: str) -> str:
    """The text of `--help`: every variable with its default and meaning."""
    lines = [f"usage: {program} [--help]", "", summary, "", "Settings, by environment:"]
    for field in msgspec.structs.fields(type_):
        info: Any = msgspec.inspect.type_info(field.type)
        described = (getattr(info, "extra_json_schema", None) or {}).get("description", "")
        default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        shown = "unset" if default is None else str(default)
        lines += [f"  {field.name.upper()}  (default: {shown})", f"      {described}"]
    lines += ["  OTEL_*", "      the usual variables of OpenTelemetry's SDK"]
    return "\n".join(lines)


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that give a child process the same settings."""
    found: dict[str, str] = {}
    for field in msgspec.structs.fields(settings):
        value = getattr(settings, field.name)
        if value is not None:
            found[field.name.upper()] = ",".join(value) if isinstance(value, tuple) else str(value)
    return found


def load(type_: type[S], program: str, summary: str, argv: Sequence[str] | None = None) -> S:
    """The settings of a service as it starts: prints help for `--help`, exits with 78 where a setting is bad."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments and arguments[0] in ("-h", "--help"):
        sys.stdout.write(describe(type_, program, summary) + "\n")
        raise SystemExit(0)
    if arguments:
        sys.stderr.write(f"{program}: no such argument: {arguments[0]} (settings come by environment; see --help)\n")
        raise SystemExit(EX_CONFIG)
    try:
        return from_environment(type_, os.environ)
    except BadSetting as error:
        sys.stderr.write(f"{program}: bad setting: {error}\n")
        raise SystemExit(EX_CONFIG) from error
