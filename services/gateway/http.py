"""How HTTP is spoken: versions, limits, the filters that each request passes, and the line of the access log."""

from services.gateway.plan import Plan
from services.gateway.routes import HEALTH, route_configuration
from services.gateway.typed import Json, extension, seconds

_MIN_COMPRESSED_BYTES = 256
_NOBODY = {"address_prefix": "0.0.0.0", "prefix_len": 32}

# Without the query, and without any header field that could hold a secret.
_ACCESS_LOG_LINE = {
    "at": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS(SNAKE_STRING)%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "service": "%UPSTREAM_CLUSTER%",
    "request_id": "%STREAM_ID%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
}


def connection_manager(plan: Plan) -> Json:
    limits = plan.limits
    return extension(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        codec_type="AUTO",
        stat_prefix="gateway",
        server_header_transformation="PASS_THROUGH",
        # Whoever connects is a stranger: what only Envoys among themselves may say is taken out of his request.
        use_remote_address=True,
        internal_address_config={"cidr_ranges": [_NOBODY]},
        generate_request_id=True,
        always_set_request_id_in_response=True,
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        max_request_headers_kb=limits.request_header_kib,
        request_headers_timeout=seconds(limits.request_header_timeout_s),
        stream_idle_timeout=seconds(limits.idle_answer_s),
        common_http_protocol_options={
            "idle_timeout": seconds(limits.idle_connection_s),
            "max_headers_count": limits.request_headers,
        },
        http2_protocol_options={
            **http2(plan, limits.connection_window_bytes),
            "max_concurrent_streams": limits.streams_per_connection,
        },
        http_filters=_filters(),
        route_config=route_configuration(plan),
        access_log=[_access_log()],
    )


def http2(plan: Plan, connection_window_bytes: int) -> Json:
    """Windows bound what one side may send before the other has read, so a slow reader stops its sender."""
    limits = plan.limits
    return {
        "initial_stream_window_size": limits.stream_window_bytes,
        "initial_connection_window_size": connection_window_bytes,
        "connection_keepalive": {
            "interval": seconds(limits.ping_interval_s),
            "timeout": seconds(limits.ping_timeout_s),
        },
    }


def _filters() -> list[Json]:
    """In the order in which a request passes them; its answer passes them the other way round."""
    brotli = extension("brotli", "extensions.compression.brotli.compressor.v3.Brotli", quality=5)
    gzip = extension("gzip", "extensions.compression.gzip.compressor.v3.Gzip")
    return [
        _compressor(brotli, choose_first=True),
        _compressor(gzip, choose_first=False),
        extension("envoy.filters.http.grpc_web", "extensions.filters.http.grpc_web.v3.GrpcWeb"),
        extension("envoy.filters.http.router", "extensions.filters.http.router.v3.Router", suppress_envoy_headers=True),
    ]


def _compressor(library: Json, choose_first: bool) -> Json:
    """`choose_first`: where a client takes several equally."""
    # By default for text, scripts, JSON and SVG; never for gRPC, whose messages are small, frequent, and may be secret.
    common = {"min_content_length": _MIN_COMPRESSED_BYTES}
    return extension(
        f"envoy.filters.http.compressor.{library['name']}",
        "extensions.filters.http.compressor.v3.Compressor",
        compressor_library=library,
        choose_first=choose_first,
        response_direction_config={"common_config": common},
    )


def _access_log() -> Json:
    to_stdout = extension(
        "envoy.access_loggers.stdout",
        "extensions.access_loggers.stream.v3.StdoutAccessLog",
        log_format={"json_format": _ACCESS_LOG_LINE, "omit_empty_values": True},
    )
    probe = {"name": ":path", "string_match": {"exact": HEALTH}, "invert_match": True}
    return {**to_stdout, "filter": {"header_filter": {"header": probe}}}
