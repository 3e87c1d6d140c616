"""Envoy's configuration, whole: one listener, the four services behind it, and what it does when memory runs out."""

import ipaddress

from services.gateway.http import connection_manager, http2
from services.gateway.plan import UPSTREAMS, Plan, split
from services.gateway.typed import Json, extension, seconds, typed

_BREAKERS = ("max_connections", "max_pending_requests", "max_requests", "max_retries")

# Strangers share the connections to a service. What nobody reads counts against the connection's window, so a few who
# do not read would stop all others; the window of each stream bounds them, and the heap all together.
_NO_WINDOW_BYTES = (1 << 31) - 1


def configuration(plan: Plan) -> Json:
    """A JSON object for `envoy --config-path`. There is no administration port in it."""
    return {
        "node": {"id": "gateway", "cluster": "tether"},
        "static_resources": {
            "listeners": [_listener(plan)],
            "clusters": [_service(name, plan.upstreams[name], plan) for name in UPSTREAMS],
        },
        "overload_manager": _overload(plan),
    }


def _listener(plan: Plan) -> Json:
    return {
        "name": "gateway",
        "address": _address(plan.listen),
        "per_connection_buffer_limit_bytes": plan.limits.stream_window_bytes,
        "filter_chains": [{"filters": [connection_manager(plan)]}],
    }


def _service(name: str, address: str, plan: Plan) -> Json:
    limits = plan.limits
    # Envoy's own breakers open at 1,024.
    breakers = dict.fromkeys(_BREAKERS, limits.streams_per_service)
    options = typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http2_protocol_options": http2(plan, _NO_WINDOW_BYTES)},
    )
    return {
        "name": name,
        "type": "STATIC" if _is_ip(split(address)[0]) else "STRICT_DNS",
        "connect_timeout": seconds(limits.connect_timeout_s),
        "per_connection_buffer_limit_bytes": limits.stream_window_bytes,
        "circuit_breakers": {"thresholds": [breakers]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(address)}}]}],
        },
    }


def _overload(plan: Plan) -> Json:
    limits = plan.limits

    def above(share: float) -> Json:
        return {"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": share}}

    def between(low: float, high: float) -> Json:
        scaled = {"scaling_threshold": low, "saturation_threshold": high}
        return {"name": "envoy.resource_monitors.fixed_heap", "scaled": scaled}

    return {
        "refresh_interval": "0.25s",
        # Streams that hold 256 KiB and more can be ended.
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 18},
        "resource_monitors": [
            extension(
                "envoy.resource_monitors.fixed_heap",
                "extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                max_heap_size_bytes=limits.heap_bytes,
            ),
            extension(
                "envoy.resource_monitors.global_downstream_max_connections",
                "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                max_active_downstream_connections=limits.connections,
            ),
        ],
        "actions": [
            {"name": "envoy.overload_actions.shrink_heap", "triggers": [above(0.85)]},
            {"name": "envoy.overload_actions.reset_high_memory_stream", "triggers": [between(0.9, 0.98)]},
            {"name": "envoy.overload_actions.stop_accepting_requests", "triggers": [above(0.95)]},
        ],
    }


def _address(address: str) -> Json:
    host, port = split(address)
    return {"socket_address": {"address": host, "port_value": port}}


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
