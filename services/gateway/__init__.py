"""The front door: one port for gRPC, gRPC-Web and the page. Envoy does the work; this package writes its configuration.

`python -m services.gateway` prints that configuration, from the same settings everywhere.
"""
