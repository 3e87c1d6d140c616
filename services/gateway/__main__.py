"""`python -m services.gateway`: writes Envoy's configuration, for whatever runs Envoy."""

import json
import sys
from pathlib import Path

from services.gateway.bootstrap import Settings, plan
from services.gateway.envoy import configuration
from services.rpc.settings import StartRefused, load


def main() -> None:
    try:
        settings = load(Settings, "gateway")
        text = json.dumps(configuration(plan(settings)), indent=2) + "\n"
        if settings.output:
            Path(settings.output).write_text(text)
        else:
            sys.stdout.write(text)
    except StartRefused as error:
        print(f"tether gateway: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"tether gateway: cannot write {error.filename} ({error.strerror}); see --output", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
