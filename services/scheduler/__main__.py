from services.rpc.process import main
from services.scheduler.bootstrap import Settings, serve

if __name__ == "__main__":
    main("scheduler", Settings, serve)
