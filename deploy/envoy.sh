#!/bin/sh
# The gateway where there is no `tether up`, such as in a container: writes Envoy's configuration from the settings in
# the environment (TETHER_…), then becomes Envoy. Arguments go to Envoy.
set -eu
configuration="${TMPDIR:-/tmp}/tether-envoy.json"
python -P -m services.gateway --output "$configuration"
exec envoy --config-path "$configuration" --disable-hot-restart --log-level warning "$@"
