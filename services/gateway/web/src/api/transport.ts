import { Code, ConnectError, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

/** Longest that a call may take; a watch has no such limit, its silence is noticed instead. */
export const CALL_TIMEOUT_MS = 20_000;

/**
 * A transport to the gateway that the page came from; `token` is asked at each call and goes into a header only.
 * `refused` is told when the platform refuses it.
 */
export function gatewayTransport(
  token: () => string | null,
  refused: (secret: string, error: ConnectError) => void = () => undefined,
): Transport {
  const authorize: Interceptor = (next) => async (request) => {
    const secret = token();
    if (secret !== null) request.header.set("authorization", `Bearer ${secret}`);
    try {
      return await next(request);
    } catch (error) {
      const failure = ConnectError.from(error);
      if (secret !== null && failure.code === Code.Unauthenticated) refused(secret, failure);
      throw failure;
    }
  };
  return createGrpcWebTransport({ baseUrl: self.location.origin, interceptors: [authorize] });
}
