"""Header fields that browsers are told with every answer."""

from collections.abc import Mapping

from services.gateway.typed import Json

# Nothing but our own files, no script or style inside of HTML, nowhere to send anything, no frame around us.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

_UNUSED = ("camera", "display-capture", "geolocation", "microphone", "midi", "payment", "serial", "usb")

ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}

PAGE = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": ", ".join(f"{feature}=()" for feature in _UNUSED),
}

# Asked for again at every visit, so that a new build is seen at once.
REVALIDATED = "no-cache"
# The name of an asset holds the hash of its content: another content has another name.
FOREVER = "public, max-age=31536000, immutable"
# An answer that is none is never kept.
NEVER = "no-store"


def fields(values: Mapping[str, str]) -> list[Json]:
    """They replace what an answer has under the same names."""
    return [
        {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for name, value in values.items()
    ]
