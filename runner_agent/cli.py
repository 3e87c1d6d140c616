"""`tether-runner`: what the owner of a GPU box does with a runner."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from runner_agent import cli_verbs, control
from runner_agent.cli_shared import AsJson, Name, StateDir, Yes, confirm, console, errors, span
from runner_agent.config import BoxConfig, StateFolder, find_state, parse_server, runners_root
from runner_agent.errors import BoxError

FOLLOW_INTERVAL_S = 0.2
GIB = 1024**3
SUSPENDED_BY = {"box_owner": "by you", "health": "by the box's health", "admin": "by the platform"}

app = typer.Typer(
    name="tether-runner",
    help="Runs trainings of a Tether platform on this box.\n\n"
    "Begin with [bold]tether-runner install[/bold], then [bold]tether-runner start[/bold].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
sample = typer.Typer(help="Data to try the platform out with.", no_args_is_help=True)
app.add_typer(sample, name="sample")


@app.command(epilog="Example: tether-runner install --server https://tether.example:50061 --key-file key.txt")
def install(
    server: Annotated[str, typer.Option(help="The platform: https://host:port, or host:port on this machine.")],
    name: Annotated[str, typer.Option(help="Name of the runner on this box.")] = "default",
    key_file: Annotated[
        Path | None, typer.Option(help="File with the secret key; otherwise TETHER_RUNNER_KEY or a prompt.")
    ] = None,
    gpus: Annotated[str, typer.Option(help="Numbers of the GPUs of this runner, as in 0,1; default: all.")] = "",
    simulate_gpus: Annotated[
        str, typer.Option(help='For development, without a GPU: "NVIDIA A10G:2". Trains on the CPU.')
    ] = "",
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow a plain connection to another machine.")] = False,
    state_dir: StateDir = None,
) -> None:
    """Make this box a runner: looks at its GPUs and keeps the secret key, readable by you alone."""
    from runner_agent import inventory  # the NVIDIA library is needed by this command only

    folder = StateFolder(state_dir if state_dir is not None else runners_root() / name)
    try:
        config = BoxConfig(name=name, server=server, simulate_gpus=simulate_gpus)
        parse_server(server)
    except ValidationError as error:
        raise BoxError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None
    if gpus and simulate_gpus:
        raise BoxError("--gpus and --simulate-gpus exclude each other; leave one of them out")
    if gpus:
        config = config.model_copy(update={"gpu_uuids": inventory.uuids_of(gpus)})
    existing = next(path for path in (folder.root, *folder.root.parents) if path.is_dir())
    found = inventory.take(existing, gpu_uuids=config.gpu_uuids, simulate=simulate_gpus, installation_id="")
    if not simulate_gpus:
        # Held by UUID, so that another GPU in the box later does not become this runner's by itself.
        config = config.model_copy(update={"gpu_uuids": tuple(gpu.uuid for gpu in found.gpus)})
    control.install(folder, config, _read_key(key_file), insecure=insecure)
    mark = " [yellow](simulated; trains on the CPU)[/]" if found.simulated else ""
    for gpu in found.gpus:
        console.print(f"  {gpu.type}, {gpu.vram_bytes / GIB:.0f} GiB{mark}")
    console.print(f"Installed in {escape(str(folder.root))}. Go on with: tether-runner start", highlight=False)


def _read_key(key_file: Path | None) -> str:
    if key_file is not None:
        try:
            return key_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BoxError(f"cannot read the secret key from {key_file}: {error}") from None
    key = os.environ.get("TETHER_RUNNER_KEY", "").strip()
    if key:
        return key
    if not sys.stdin.isatty():
        raise BoxError("there is no secret key; give it with --key-file or in TETHER_RUNNER_KEY")
    return str(typer.prompt("Secret key of the runner", hide_input=True)).strip()


@app.command(epilog="Example: tether-runner reauth --key-file box-1.key")
def reauth(
    key_file: Annotated[
        Path | None, typer.Option(help="File with the new secret key; otherwise TETHER_RUNNER_KEY or a prompt.")
    ] = None,
    name: Name = "",
    state_dir: StateDir = None,
) -> None:
    """Take a new secret key. A training that runs goes on, if this is done within its window."""
    from runner_agent import reauth as new_key  # gRPC is needed by this command only

    runner = control.look(find_state(state_dir, name))
    key = _read_key(key_file)
    unasked = new_key.check(runner.folder, key)
    new_key.replace_key(runner.folder, key)
    console.print(f"The runner {runner.config.name} has a new secret key.")
    if unasked:
        errors.print(f"The platform could not be asked about it ({unasked}); see `tether-runner status` later.")


@app.command(epilog="Example: tether-runner start, or tether-runner start --foreground below a service manager")
def start(
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay in the foreground; Ctrl-C stops.")] = False,
    name: Name = "",
    state_dir: StateDir = None,
) -> None:
    """Connect the runner to the platform and take trainings."""
    folder = find_state(state_dir, name)
    if foreground:
        runner = control.look(folder)
        if runner.running:
            raise BoxError(f"the runner is running already (pid {runner.launcher_pid}); see `tether-runner status`")
        console.print(f"Running {runner.config.name}; logs: tether-runner logs -f", highlight=False)
        command = control.launcher_command(folder)
        os.execv(command[0], command)
    with errors.status("Connecting…"):
        runner = control.start(folder)
    status = control.as_json(runner)
    _print_status(status)
    if not status["connected"]:
        # It goes on trying in the background; whoever waited for it should know.
        raise typer.Exit(1)


@app.command(epilog="Example: tether-runner stop --yes")
def stop(yes: Yes = False, name: Name = "", state_dir: StateDir = None) -> None:
    """Stop the runner. A training that runs is ended, after it has saved a checkpoint; asks first."""
    runner = control.look(find_state(state_dir, name))
    if not runner.running and not runner.held:
        console.print(f"The runner {runner.config.name} is not running.")
        return
    if runner.held:
        confirm(f"{_describe(runner)} Stop it? It saves a checkpoint and the job ends.", yes)
        _stop_training(runner, "END_REASON_STOPPED_BY_PERSON", "stopped on the box by its owner")
    if runner.running:
        with errors.status("Stopping…"):
            control.stop(runner)
    console.print(f"The runner {runner.config.name} is stopped.")


@app.command(epilog="Example: tether-runner status --json")
def status(json_output: AsJson = False, name: Name = "", state_dir: StateDir = None) -> None:
    """Show whether the runner is connected and what it trains."""
    content = control.as_json(control.look(find_state(state_dir, name)))
    if json_output:
        print(json.dumps(content, indent=2))
    else:
        _print_status(content)


@app.command(epilog="Example: tether-runner logs -f")
def logs(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes; Ctrl-C ends.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last entries.")] = 50,
    name: Name = "",
    state_dir: StateDir = None,
) -> None:
    """Show what launcher and agent have logged."""
    folder = find_state(state_dir, name)
    folder.load()
    sources = {"launcher": folder.launcher_log, "agent": folder.agent_log}
    places = {source: _size(path) for source, path in sources.items()}
    entries = control.log_entries(folder, lines)
    for entry in entries:
        _print_entry(entry)
    if not entries:
        console.print("Nothing is logged yet; start the runner with: tether-runner start")
    while follow:
        time.sleep(FOLLOW_INTERVAL_S)
        for source, path in sources.items():
            size = _size(path)
            # A smaller file is a new one: the old one was full.
            start_at = places[source] if size >= places[source] else 0
            if size > start_at:
                with path.open("rb") as file:
                    file.seek(start_at)
                    data = file.read()
                data = data[: data.rfind(b"\n") + 1]
                for line in data.decode(errors="replace").splitlines():
                    _print_entry(control.log_entry(source, line))
                places[source] = start_at + len(data)


@app.command(epilog="Example: tether-runner uninstall --yes")
def uninstall(
    yes: Yes = False,
    delete_checkpoints: Annotated[
        bool, typer.Option("--delete-checkpoints", help="Remove the checkpoints of its trainings as well.")
    ] = False,
    name: Name = "",
    state_dir: StateDir = None,
) -> None:
    """Remove the runner from this box. Asks first; declining changes nothing."""
    runner = control.look(find_state(state_dir, name))
    checkpoints = control.checkpoints(runner.folder)
    keep = bool(checkpoints) and not delete_checkpoints
    what = f"{_describe(runner)} It will be stopped. " if runner.held else ""
    loss = f" and {len(checkpoints)} checkpoint files" if checkpoints and not keep else ""
    confirm(f"{what}Remove the runner {runner.config.name}{loss} from this box?", yes)
    if runner.held:
        _stop_training(runner, "END_REASON_RUNNER_UNINSTALLED", "the runner was uninstalled on its box")
    if runner.running:
        with errors.status("Stopping…"):
            control.stop(runner)
    from runner_agent import farewell  # gRPC is needed by this command only

    with errors.status("Telling the platform…"):
        untold = farewell.tell(runner.folder)
    control.remove(runner.folder, keep_checkpoints=keep)
    console.print(f"The runner {runner.config.name} is uninstalled.")
    if untold:
        errors.print(f"The platform could not be told ({untold}); there, an admin runs: tether runners uninstall NAME")
    if keep:
        console.print(f"{len(checkpoints)} checkpoint files are left in {runner.folder.attempts}", highlight=False)


@sample.command(epilog="Example: tether-runner sample digits ~/digits")
def digits(directory: Annotated[Path, typer.Argument(help="Folder to write to; made if it is not there.")]) -> None:
    """Write 1,797 scans of handwritten digits as an image folder, one folder a class."""
    from runner_agent.trainer.sample import write_digits  # needs scikit-learn, which takes a second to import

    try:
        number = write_digits(directory)
    except OSError as error:
        raise BoxError(f"cannot write to {directory}: {error.strerror}; choose another folder") from None
    console.print(f"Wrote {number} images to {directory.absolute()}", highlight=False)


cli_verbs.register(app)


def _stop_training(runner: control.Runner, reason: str, message: str) -> None:
    with errors.status("Stopping the training; it saves a checkpoint…"):
        if not control.stop_training(runner, reason, message):
            raise BoxError("the training does not end; see `tether-runner logs`, and try again")
        if runner.running and not control.wait_until_told(runner.folder):
            errors.print("The platform could not be told yet; it will be at the next start.")


def _describe(runner: control.Runner) -> str:
    held = runner.held[0]
    return f"A training runs here (attempt {held['attempt_id']}, step {held['step']})."


def _print_status(status: dict[str, Any]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_row("runner", escape(status["runner_name"] or status["name"]))
    table.add_row("state", _state(status))
    table.add_row("platform", escape(status["server"]))
    gpus = ", ".join(status["gpus"])
    if gpus:
        table.add_row("GPUs", gpus + (" [yellow](simulated; trains on the CPU)[/]" if status["simulated"] else ""))
    if status["error"]:
        table.add_row("problem", f"[red]{escape(status['error'])}[/]")
    for one in status["suspensions"]:
        left = "" if one["ends_in_s"] is None else f" · ends in {span(one['ends_in_s'])}"
        table.add_row("suspended", f"{SUSPENDED_BY[one['owner']]}: {escape(one['reason'])}{left}")
    training = status["training"]
    if training is not None:
        table.add_row("training", f"{training['attempt_id']} · {training['phase']} · step {training['step']}")
        table.add_row("running for", span(training["running_s"]))
        if not status["connected"]:
            table.add_row("cut off", f"[red]ends itself in {span(training['ends_itself_in_s'])}[/]")
    elif status["connected"]:
        ready = "ready for the next training" if status["warm"] else "loading the training libraries"
        table.add_row("training", f"none · {ready}")
    if status["unreported"] or status["unshipped_bytes"]:
        waiting = f"{status['unreported']} reports, {status['unshipped_bytes']:,} bytes of records"
        table.add_row("to deliver", waiting)
    console.print(table, highlight=False)
    if not status["running"]:
        console.print("Start it with: tether-runner start")


def _state(status: dict[str, Any]) -> str:
    if not status["running"]:
        return "⚫ not running" if status["training"] is None else "🔴 not running, but its training goes on"
    if not status["connected"]:
        return "⚫ not connected" if status["training"] is None else "🔴 training · cut off"
    if status["training"] is not None:
        return "🔴 training"
    return "🟠 suspended" if status["suspensions"] else "🟢 online"


def _print_entry(entry: dict[str, Any]) -> None:
    at, level, event = entry.pop("timestamp", ""), entry.pop("level", ""), entry.pop("event", "")
    source = entry.pop("source")
    rest = " ".join(f"{name}={value}" for name, value in entry.items() if value != "")
    console.print(f"{at} {source:8} {level:7} {event} {rest}".rstrip(), markup=False, highlight=False, soft_wrap=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def main() -> None:
    """Run the command line; an expected error is one sentence and exit code 1."""
    try:
        app()
    except BoxError as error:
        errors.print(f"[red]{escape(str(error))}[/]", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
