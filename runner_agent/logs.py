"""Logs of the box's processes: JSON lines in files of bounded size."""

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

import structlog

FILE_BYTES = 5 * 1024 * 1024
OLD_FILES = 2


def configure(path: Path) -> None:
    """Send what structlog is told to `path`, which is replaced when it is full."""
    handler = RotatingFileHandler(path, maxBytes=FILE_BYTES, backupCount=OLD_FILES)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
