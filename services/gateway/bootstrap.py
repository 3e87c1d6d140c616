"""Settings of the gateway, and what it is told by them."""

from pathlib import Path

from pydantic import Field, field_validator

from services.gateway.files import BUILT, PageRefused, read_page
from services.gateway.plan import MIB, UPSTREAMS, Limits, Plan, names_of
from services.rpc.settings import ListenSettings, StartRefused, host_and_port

_DEFAULTS = Limits()


class Settings(ListenSettings):
    """Settings of the gateway."""

    listen: str = Field("127.0.0.1:27700", description="host:port to serve on")
    scheduler_address: str = Field(description="the scheduler, host:port")
    quota_address: str = Field(description="the quota service, host:port")
    metrics_address: str = Field(description="the metrics service, host:port")
    eventlog_address: str = Field(description="the event log's service, host:port")
    hosts: str = Field(
        "",
        description="further names by which it is reached, as a browser's address line has them, with commas in "
        "between: gpu.example.com,10.0.0.5:27700",
    )
    page: Path = Field(BUILT, description="folder of the built page")
    connections: int = Field(_DEFAULTS.connections, ge=1, le=1_000_000, description="clients at once")
    heap_mib: int = Field(
        _DEFAULTS.heap_bytes // MIB, ge=128, le=1 << 20, description="near this much memory requests are refused, MiB"
    )
    output: str = Field("", description="file to write instead of standard output")

    @field_validator("scheduler_address", "quota_address", "metrics_address", "eventlog_address")
    @classmethod
    def _upstream(cls, value: str) -> str:
        return host_and_port(value)

    @field_validator("listen")
    @classmethod
    def _known_port(cls, value: str) -> str:
        if value.endswith(":0"):
            raise ValueError("it needs a port, because requests are recognised by it")
        return value

    @field_validator("hosts")
    @classmethod
    def _names(cls, value: str) -> str:
        names_of("localhost:1", value)
        return value


def plan(settings: Settings) -> Plan:
    """Raises StartRefused where the page's folder is not what its build writes."""
    try:
        page = read_page(settings.page)
    except PageRefused as error:
        raise StartRefused(str(error)) from None
    return Plan(
        listen=settings.listen,
        upstreams={name: getattr(settings, f"{name}_address") for name in UPSTREAMS},
        page=page,
        hosts=names_of(settings.listen, settings.hosts),
        limits=Limits(connections=settings.connections, heap_bytes=settings.heap_mib * MIB),
    )
