from services.metrics.bootstrap import Settings, serve
from services.rpc.process import main

if __name__ == "__main__":
    main("metrics", Settings, serve)
