from services.quota.bootstrap import Settings, serve
from services.rpc.process import main

if __name__ == "__main__":
    main("quota", Settings, serve)
