"""Whether a call came through the gateway, behind whose address every service answers."""

from typing import Any

import grpc

# A header that the gateway sets on each call that it passes on.
THROUGH_GATEWAY = "x-tether-through-gateway"


def came_through_gateway(context: "grpc.aio.ServicerContext[Any, Any]") -> bool:
    return any(key == THROUGH_GATEWAY for key, _ in context.invocation_metadata() or ())
