"""What the figures of `make bench` are to reach."""

# Figure → at least or at most, and how much.
GOALS = {
    "append_events_per_s": ("at least", 50_000),
    "append_paced_during_export_ratio": ("at least", 0.9),
    "dispatch_p50_ms": ("at most", 25),
    "dispatch_p99_ms": ("at most", 100),
    "first_step_s": ("at most", 1.0),
    "heartbeat_cpu_us": ("at most", 250),
    "metrics_points_per_s": ("at least", 500_000),
    "metrics_query_ms": ("at most", 50),
    "page_load_ms": ("at most", 1_000),
    "reconnect_s": ("at most", 60),
    "replay_events_per_s": ("at least", 500_000),
    "session_kib": ("at most", 100),
    "sessions": ("at least", 10_000),
    "usage_ms": ("at most", 5),
    "watch_p99_ms": ("at most", 200),
    "watch_to_pixel_ms": ("at most", 200),
}
