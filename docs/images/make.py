"""Draws docs/images/train.svg: what `tether train` shows of a training while it runs.

    python docs/images/make.py

Runs a real training on the platform that `tether` finds; the tutorial's runner and dataset must be there.
"""

import io
import shlex
from pathlib import Path

from rich.console import Console
from rich.spinner import Spinner
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from protos.metrics.v1.metrics_pb2 import WatchMetricsRequest
from protos.scheduler.v1.job_pb2 import GetJobRequest, SubmitJobRequest
from protos.training.v1.training_pb2 import AdvancedEvaluation, Limits
from services.cli import live_view
from services.cli.connection import Platform, new_request_id
from services.cli.live_state import LiveState
from services.cli.settings import environment, load
from services.clock import PlatformClock

OUT = Path(__file__).parent / "train.svg"
COMMAND = "tether train digits resnet-tiny --runner box-1 --epochs 30 --confusion-matrix"
# How much of the training is done in the picture.
SHARE = 0.7
COLUMNS = 88
POINTS = 500

THEME = TerminalTheme(
    background=(22, 27, 34),
    foreground=(201, 209, 217),
    # Black, red, green, yellow, blue, magenta, cyan, white.
    normal=[
        *((72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34)),
        *((88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)),
    ],
)
# Rich's own frame loads a font from the network; this one uses what the reader has.
FRAME = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="tether train">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; white-space: pre;
}}
.{unique_id}-title {{ font: 16px ui-sans-serif, system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> None:
    platform, clock = Platform(load(None, None, False, environment())), PlatformClock()
    state = run_until(platform, clock, SHARE)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print(Text.assemble(("$ ", "green"), COMMAND))
    console.print(live_view.panel(state, clock.now_ms(), Spinner("dots")))
    OUT.write_text(console.export_svg(title="tether", theme=THEME, code_format=FRAME, unique_id="tether"))


def run_until(platform: Platform, clock: PlatformClock, share: float) -> LiveState:
    """Start the command's training and return what its view knows when that share is done."""
    words = shlex.split(COMMAND)
    submitted = platform.jobs.SubmitJob(
        SubmitJobRequest(
            request_id=new_request_id(),
            dataset_id=words[2],
            architecture_id=words[3],
            runner_id=words[5],
            limits=Limits(epochs=int(words[7])),
            advanced_evaluation=AdvancedEvaluation(confusion_matrix=True),
        )
    )
    state, fresh = LiveState(submitted.job), True
    request = WatchMetricsRequest(job_id=state.job.job_id, max_points=POINTS)
    for response in platform.metrics.WatchMetrics(request):
        state.take_series(response.series, fresh)
        fresh = False
        state.take_job(platform.jobs.GetJob(GetJobRequest(job_id=state.job.job_id)).job)
        if state.over or (state.share_done(clock.now_ms()) or 0) >= share:
            break
    return state


if __name__ == "__main__":
    main()
