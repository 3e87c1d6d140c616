"""Verbs of `tether-runner` that make a runner, change its key, and remove it: install, reauth, uninstall."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape

from runner_agent import control, gpu_claims, ownership, stopping, systemd
from runner_agent.cli_shared import (
    Name,
    StateDir,
    Yes,
    confirm,
    console,
    describe_training,
    errors,
    stop_training,
    the_runner,
)
from runner_agent.config import NAME_PATTERN, BoxConfig, StateFolder, installed_runners, parse_server, runners_root
from runner_agent.errors import BoxError

GIB = 1024**3


def install(
    server: Annotated[str, typer.Option(help="The platform: https://host:port, or host:port on this machine.")],
    name: Annotated[str, typer.Option(help="Name of the runner on this box.")] = "default",
    key_file: Annotated[
        Path | None, typer.Option(help="File with the secret key; otherwise TETHER_RUNNER_KEY or a prompt.")
    ] = None,
    gpus: Annotated[
        str, typer.Option(help="Numbers of the GPUs of this runner, as in 0,1; default: all that the box has.")
    ] = "",
    simulate_gpus: Annotated[
        str, typer.Option(help='For development, without a GPU: "NVIDIA A10G:2". Trains on the CPU.')
    ] = "",
    upload: Annotated[
        bool, typer.Option("--upload/--no-upload", help="Whether checkpoints are sent to the platform as well.")
    ] = True,
    dataset_roots: Annotated[
        list[Path] | None,
        typer.Option("--dataset-root", help="Folder below which datasets may lie; may be repeated. Default: any."),
    ] = None,
    dataset_protocols: Annotated[
        list[str] | None,
        typer.Option("--dataset-protocol", help="Protocol of URLs that datasets may have, as in s3; may be repeated."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow a plain connection to another machine.")] = False,
    service: Annotated[
        bool | None,
        typer.Option(
            "--service/--no-service",
            help="Whether it becomes a service of systemd; default: yes where systemd runs and the GPUs are real.",
        ),
    ] = None,
    run_as: Annotated[
        str, typer.Option(help="As root: the user under whom the service runs, rather than root itself.")
    ] = "",
    state_dir: StateDir = None,
) -> None:
    """Make this box a runner: looks at its GPUs and keeps the secret key, readable by you alone.

    Where systemd runs, the runner becomes a service that starts with the box: one of the box if you are root, one of
    your own otherwise. A box can carry several runners, each with its own --name and --gpus.
    """
    from runner_agent import inventory  # the NVIDIA library is needed by this command only

    if not NAME_PATTERN.fullmatch(name):
        raise BoxError(f"--name {name!r} is not a name: begin with a letter or digit; then also . _ - (at most 64)")
    as_service = _wants_service(service, run_as, simulated=bool(simulate_gpus))
    folder = _folder_for(name, state_dir, run_as)
    try:
        config = BoxConfig(
            name=name,
            server=server,
            simulate_gpus=simulate_gpus,
            upload=upload,
            dataset_roots=tuple(str(root.absolute()) for root in dataset_roots or ()),
            dataset_protocols=tuple(dict.fromkeys(("file", *(dataset_protocols or ())))),
        )
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
        uuids = tuple(gpu.uuid for gpu in found.gpus)
        everything, _ = inventory.real_gpus()
        label = {gpu.uuid: f"{number} ({gpu.type}, {gpu.uuid})" for number, gpu in enumerate(everything)}
        gpu_claims.check_disjoint(uuids, gpu_claims.other_runners(folder, installed_runners()), label)
        gpu_claims.check_unclaimed(uuids)
        config = config.model_copy(update={"gpu_uuids": uuids})
    if as_service:
        config = config.model_copy(update={"unit": str(systemd.unit_path(name))})
    control.install(folder, config, _read_key(key_file), insecure=insecure)
    if as_service:
        _install_service(folder, config, run_as)
    mark = " [yellow](simulated; trains on the CPU)[/]" if found.simulated else ""
    for gpu in found.gpus:
        console.print(f"  {gpu.type}, {gpu.vram_bytes / GIB:.0f} GiB{mark}")
    console.print(f"Installed in {escape(str(folder.root))}.", highlight=False, soft_wrap=True)
    for line in _how_to_run(config):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _wants_service(service: bool | None, run_as: str, *, simulated: bool) -> bool:
    """Raises BoxError where a service is asked for that cannot be."""
    if run_as and service is False:
        raise BoxError(f"--run-as is for a service; without one become {run_as}, and install as that user")
    if (service or run_as) and not systemd.runs():
        raise BoxError("systemd does not run this box; leave --service and --run-as out, and see what install says")
    # A box that only simulates is somebody's own machine, and nothing to be started with it.
    return systemd.runs() and (service if service is not None else bool(run_as) or not simulated)


def _folder_for(name: str, state_dir: Path | None, run_as: str) -> StateFolder:
    """Where the runner's state lies; from here on root acts as the user that the runner is for."""
    if not run_as:
        return StateFolder(state_dir if state_dir is not None else runners_root() / name)
    if os.getuid() != 0:
        raise BoxError("--run-as is for root; leave it out, and the runner is yours")
    entry = ownership.account(run_as)
    control.check_runs_as(entry)
    own = state_dir if state_dir is not None else Path(entry.pw_dir) / ".local" / "share" / "tether-runner" / name
    link = runners_root() / name
    if link.is_symlink() or link.exists():
        raise BoxError(f"root has a runner {name!r} already; use another --name")
    ownership.become(entry.pw_uid)
    return StateFolder(own)


def _install_service(folder: StateFolder, config: BoxConfig, run_as: str) -> None:
    unit = Path(config.unit)
    command = control.launcher_command(folder)
    try:
        text = systemd.unit_text(config.name, command, folder.root, system=systemd.is_system(unit), run_as=run_as)
        systemd.write(unit, text)
    except BoxError:
        stopping.remove(folder, keep_checkpoints=False)
        raise
    if run_as:
        # So that root finds it by its name as well.
        with ownership.as_caller():
            runners_root().mkdir(mode=0o700, parents=True, exist_ok=True)
            (runners_root() / config.name).symlink_to(folder.root)
    if not systemd.is_system(unit) and not systemd.enable_linger():
        errors.print(
            "The service ends when you log out, until an admin of the box allows it to stay: "
            "sudo loginctl enable-linger $USER",
            soft_wrap=True,
        )


def _how_to_run(config: BoxConfig) -> list[str]:
    of = "" if config.name == "default" else f" --name {config.name}"
    if config.unit:
        unit = Path(config.unit).name
        return [f"It is the service {unit}, which starts with the box. Start it now with: tether-runner start{of}"]
    lines = [f"Go on with: tether-runner start{of}"]
    if not systemd.runs():
        lines.append(
            "There is no systemd here: `start` runs it in the background until the box is switched off. Below another "
            f"supervisor run `tether-runner start --foreground{of}`, restarted unless it ends with 0, and let a stop "
            "signal that process alone, so that it never takes a training along."
        )
    return lines


def _read_key(key_file: Path | None) -> str:
    if key_file is not None:
        try:
            with ownership.as_caller():
                return key_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BoxError(f"cannot read the secret key from {key_file}: {error}") from None
    key = os.environ.get("TETHER_RUNNER_KEY", "").strip()
    if key:
        return key
    if not sys.stdin.isatty():
        raise BoxError("there is no secret key; give it with --key-file or in TETHER_RUNNER_KEY")
    return str(typer.prompt("Secret key of the runner", hide_input=True)).strip()


def reauth(
    key_file: Annotated[
        Path | None, typer.Option(help="File with the new secret key; otherwise TETHER_RUNNER_KEY or a prompt.")
    ] = None,
    name: Name = "",
    state_dir: StateDir = None,
) -> None:
    """Take a new secret key. A training that runs goes on, if this is done within its window.

    Works without a connection too: the key is kept, and tried at the next one.
    """
    # gRPC is needed by this command only; imported before root becomes somebody who may not read it.
    from runner_agent import reauth as new_key

    runner = control.look(the_runner(state_dir, name))
    key = _read_key(key_file)
    control.check_key(key)
    unasked = new_key.check(runner.folder, key)
    new_key.replace_key(runner.folder, key)
    console.print(f"The runner {runner.config.name} has a new secret key.")
    if unasked:
        told = f"The platform could not be asked about it ({unasked}); see `tether-runner status` later."
        errors.print(escape(told), highlight=False, soft_wrap=True)


def uninstall(
    yes: Yes = False,
    delete_checkpoints: Annotated[
        bool, typer.Option("--delete-checkpoints", help="Remove the checkpoints of its trainings as well.")
    ] = False,
    name: Name = "",
    state_dir: StateDir = None,
) -> None:
    """Remove the runner from this box. Asks first; declining changes nothing.

    Stops its training, tells the platform, and removes all that was installed, its service too; without a connection
    the box does its part alone.
    """
    # gRPC is needed by this command only; imported before root becomes somebody who may not read it.
    from runner_agent import farewell

    runner = control.look(the_runner(state_dir, name))
    unit = Path(runner.config.unit) if runner.config.unit else None
    if unit is not None and not systemd.may_change(unit):
        raise BoxError(f"this runner is a service of the box ({unit}); uninstall it as root, with sudo")
    checkpoints = stopping.checkpoints(runner.folder)
    keep = bool(checkpoints) and not delete_checkpoints
    training = describe_training(runner)
    what = f"{training} It will be stopped. " if training else ""
    loss = f" and {len(checkpoints)} checkpoint files" if checkpoints and not keep else ""
    confirm(f"{what}Remove the runner {runner.config.name}{loss} from this box?", yes)
    if training:
        stop_training(runner, "END_REASON_RUNNER_UNINSTALLED", "the runner was uninstalled on its box")
    with errors.status("Stopping…"):
        stopping.stop(runner)
    with errors.status("Telling the platform…"):
        untold = farewell.tell(runner.folder)
    if unit is not None:
        _remove_service(runner, unit)
    stopping.remove(runner.folder, keep_checkpoints=keep)
    console.print(f"The runner {runner.config.name} is uninstalled.")
    if untold:
        told = f"The platform could not be told ({untold}); there, an admin runs: tether runners uninstall NAME"
        errors.print(escape(told), highlight=False, soft_wrap=True)
    if keep:
        left = f"{len(checkpoints)} checkpoint files are left in {runner.folder.attempts}"
        console.print(escape(left), highlight=False, soft_wrap=True)


def _remove_service(runner: control.Runner, unit: Path) -> None:
    refused = systemd.remove(unit)
    if refused:
        errors.print(escape(f"The unit {unit} is removed, but systemd does not know: {refused}"), soft_wrap=True)
    with ownership.as_caller():
        link = runners_root() / runner.config.name
        if link.is_symlink():
            link.unlink()


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    several = "Two runners on one box: install --name a --gpus 0,1 …, then install --name b --gpus 2,3 …"
    app.command(
        epilog="Example: tether-runner install --server https://tether.example:50061 --key-file key.txt\n\n" + several
    )(install)
    app.command(epilog="Example: tether-runner reauth --key-file box-1.key")(reauth)
    app.command(epilog="Example: tether-runner uninstall --name box-1")(uninstall)
