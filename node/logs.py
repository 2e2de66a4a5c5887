"""How a process speaks: named events as JSON lines on standard error, UIDs only, never a patient."""

import logging
import sys

import structlog


def configure(part: str, *, level: int = logging.INFO) -> None:
    """Every event of this process, and what libraries warn of, goes out as one JSON line that names the part."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    structlog.contextvars.bind_contextvars(part=part)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    # Libraries may print what they were given, a data set with a name in it: only their warnings are let out.
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for talkative in ("pynetdicom", "pydicom", "highdicom"):
        logging.getLogger(talkative).setLevel(logging.CRITICAL)
