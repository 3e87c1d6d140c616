"""`tether runners`: the GPU boxes of the workspace."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from protos.events.v1.runner_pb2 import SuspensionOwner
from protos.scheduler.v1 import runner_pb2 as pb
from services.cli.connection import Platform, connect, new_request_id
from services.cli.feed import Source, follow
from services.cli.moment import At, as_of_line, parse
from services.cli.output import console, error_console, print_json, to_json
from services.cli.parameters import AsJson, RunnerArgument, parse_labels, parse_span_ms
from services.cli.settings import Address
from services.cli.states import runner_status
from services.cli.tables import facts, table
from services.clock import PlatformClock
from services.words import format as fmt

KeyFile = Annotated[
    Path | None, typer.Option(help="Write the secret key to this new file, readable by you alone; do not show it.")
]

_OWNERS = {
    SuspensionOwner.SUSPENSION_OWNER_BOX_OWNER: "the box's owner",
    SuspensionOwner.SUSPENSION_OWNER_ADMIN: "an admin",
    SuspensionOwner.SUSPENSION_OWNER_HEALTH: "its health check",
}


def register(app: typer.Typer, name: str, help_: str, panel: str) -> None:
    group = typer.Typer(no_args_is_help=True)
    group.command("list", epilog="Examples: tether runners list --json\n\ntether runners list --at '2h ago'")(list_)
    group.command("add", epilog="Example: tether runners add box-1 --label room=2")(add)
    group.command("show", epilog="Examples: tether runners show box-1\n\ntether runners show box-1 --at=#1234")(show)
    group.command("regenerate-key", epilog="Example: tether runners regenerate-key box-1 --key-file box-1.key")(
        regenerate_key
    )
    group.command("uninstall", epilog="Example: tether runners uninstall box-1")(uninstall)
    group.command("suspend", epilog='Example: tether runners suspend box-1 --for 2h --reason "new fans"')(suspend)
    group.command("resume", epilog="Example: tether runners resume box-1")(resume)
    group.command("watch", epilog="Example: tether runners watch")(watch)
    app.add_typer(group, name=name, help=help_, rich_help_panel=panel)


def list_(context: typer.Context, at: At = "", as_json: AsJson = False) -> None:
    """List the runners with their status, now or as it was."""
    now_ms = PlatformClock().now_ms()
    as_of = parse(at, now_ms) if at else None
    response = connect(context).runners.ListRunners(pb.ListRunnersRequest(as_of=as_of))
    if as_json:
        print_json(response)
        return
    if as_of is not None:
        console().print(as_of_line(response.as_of_position, response.as_of_ms))
        now_ms = response.as_of_ms
    if response.runners:
        console().print(_table(list(response.runners), now_ms))
    elif as_of is not None:
        console().print("There was no runner.")
    else:
        console().print("There is no runner yet. Make one for your GPU box: tether runners add NAME")


def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the runner, unique in the workspace.")],
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="May be repeated.")] = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a runner. Its secret key is shown once; the box needs it at its installation."""
    platform = connect(context)
    if key_file is not None:
        # Before the runner exists: a key that cannot be kept would be lost.
        _make_private(key_file)
    created = platform.runners.CreateRunner(
        pb.CreateRunnerRequest(request_id=new_request_id(), name=name, labels=parse_labels(label or []))
    )
    if key_file is not None:
        key_file.write_text(created.secret_key + "\n")
        created.secret_key = ""
    if as_json:
        print_json(created)
        return
    out = console()
    out.print(f"Runner [bold]{escape(created.runner.name)}[/] exists; no box has connected yet.\n")
    if created.secret_withheld:
        out.print("Its secret key got lost on the way and is never shown twice; add a runner with another name.")
        return
    if key_file is not None:
        out.print(f"Its secret key is in {escape(str(key_file))}.\n", soft_wrap=True)
    else:
        out.print("Its secret key, shown only now:\n")
        out.print(f"  [bold]{escape(created.secret_key)}[/]\n", soft_wrap=True)
    _how_to_install(platform, created.runner.name)


def _make_private(file: Path) -> None:
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise typer.BadParameter(f"{file} exists already; choose a new file", param_hint="--key-file") from None
    except OSError as error:
        raise typer.BadParameter(f"cannot write {file}: {error.strerror}", param_hint="--key-file") from None


def show(context: typer.Context, runner: RunnerArgument, at: At = "", as_json: AsJson = False) -> None:
    """Show one runner: status, hardware, what it trains, now or as it was."""
    now_ms = PlatformClock().now_ms()
    as_of = parse(at, now_ms) if at else None
    response = connect(context).runners.GetRunner(pb.GetRunnerRequest(runner_id=runner, as_of=as_of))
    if as_json:
        print_json(response)
        return
    if as_of is not None:
        console().print(as_of_line(response.as_of_position, response.as_of_ms))
        now_ms = response.as_of_ms
    console().print(_facts(response.runner, now_ms))


def regenerate_key(
    context: typer.Context,
    runner: RunnerArgument,
    overlap: Annotated[str, typer.Option(metavar="10m", help="Let the old key work on for 30m, 2h, 3d …")] = "",
    key_file: KeyFile = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a new secret key. The old one is refused at once, or after --overlap.

    A training that runs goes on if the box gets the new key within the window of 15 minutes: tether-runner reauth
    """
    platform = connect(context)
    if not yes and not overlap:
        found = platform.runners.GetRunner(pb.GetRunnerRequest(runner_id=runner)).runner
        busy = " Its training ends in 15 minutes unless the box gets the new key." if found.attempt_id else ""
        typer.confirm(f"Refuse the old key of {found.name} from now on?{busy}", abort=True, err=True)
    if key_file is not None:
        _make_private(key_file)
    made = platform.runners.RegenerateSecretKey(
        pb.RegenerateSecretKeyRequest(
            request_id=new_request_id(), runner_id=runner, overlap_ms=parse_span_ms(overlap) if overlap else 0
        )
    )
    if key_file is not None:
        key_file.write_text(made.secret_key + "\n")
        made.secret_key = ""
    if as_json:
        print_json(made)
        return
    out, name = console(), shlex.quote(made.runner.name)
    if key_file is not None:
        out.print(f"The new secret key is in {escape(str(key_file))}.", soft_wrap=True)
    else:
        out.print(f"The new secret key, shown only now:\n\n  [bold]{escape(made.secret_key)}[/]", soft_wrap=True)
    out.print(f"\nOn the box: tether-runner reauth --name {escape(name)}", soft_wrap=True)


def uninstall(
    context: typer.Context,
    runner: RunnerArgument,
    reason: Annotated[str, typer.Option(help="For the people who read it later.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a runner out of the platform for good: its key is refused, its name is free again. Asks first."""
    platform = connect(context)
    if not yes:
        typer.confirm(f"Uninstall the runner {runner}? Its box needs a new runner to come back.", abort=True, err=True)
    response = platform.runners.UninstallRunner(
        pb.UninstallRunnerRequest(request_id=new_request_id(), runner_id=runner, reason=reason)
    )
    if as_json:
        print_json(response.runner)
        return
    console().print(f"The runner [bold]{escape(response.runner.name)}[/] is uninstalled.")


def suspend(
    context: typer.Context,
    runner: RunnerArgument,
    reason: Annotated[str, typer.Option(help="For the people who read it later.")] = "",
    span: Annotated[str, typer.Option("--for", metavar="2h", help="Ends by itself after 30m, 2h, 3d …")] = "",
    as_json: AsJson = False,
) -> None:
    """Let a runner take no new training. One that runs goes on."""
    now_ms = PlatformClock().now_ms()
    until_ms = now_ms + parse_span_ms(span) if span else 0
    response = connect(context).runners.SuspendRunner(
        pb.SuspendRunnerRequest(request_id=new_request_id(), runner_id=runner, reason=reason, until_ms=until_ms)
    )
    _changed(response.runner, as_json)


def resume(context: typer.Context, runner: RunnerArgument, as_json: AsJson = False) -> None:
    """Lift the admins' suspension. The box's owner and its health check lift their own."""
    response = connect(context).runners.ResumeRunner(
        pb.ResumeRunnerRequest(request_id=new_request_id(), runner_id=runner)
    )
    _changed(response.runner, as_json)


def watch(context: typer.Context, as_json: AsJson = False) -> None:
    """Show each change of a runner's status as it happens; Ctrl-C ends. With --json one document a line."""
    platform, clock, out, aside = connect(context), PlatformClock(), console(), error_console()
    if not platform.runners.ListRunners(pb.ListRunnersRequest()).runners:
        aside.print("There is no runner yet; waiting for `tether runners add NAME`. Ctrl-C ends.")
    source: Source[pb.WatchRunnersResponse] = Source(
        "runners", lambda: platform.runners.WatchRunners(pb.WatchRunnersRequest())
    )
    shown: dict[str, str] = {}
    for response in follow(source, lambda: aside.print("reconnecting…"), lambda: aside.print("connected again")):
        for runner in response.runners:
            status = runner_status(runner, clock.now_ms())
            key = f"{runner.status} {runner.deadline_at_ms} {runner.job_id}"
            if shown.get(runner.runner_id) == key:
                continue
            shown[runner.runner_id] = key
            if as_json:
                print(to_json(runner), flush=True)
            else:
                doing = f"  {fmt.short_id(runner.job_id)}" if runner.job_id else ""
                out.print(Text(f"{fmt.clock_time(clock.now_ms())}  {runner.name:<16}  ") + status + doing)


def _table(runners: list[pb.Runner], now_ms: int) -> Table:
    made = table("name", "status", "GPUs", "rate", "job", "labels", "heard", keep=("name", "status", "job", "heard"))
    for runner in runners:
        made.add_row(
            Text(runner.name, "bold"),
            runner_status(runner, now_ms),
            _gpus(runner),
            fmt.rate_short(runner.rate_micros),
            fmt.short_id(runner.job_id) if runner.job_id else "",
            Text(fmt.labels(runner.labels)),
            "now" if runner.connected else fmt.ago(runner.last_contact_at_ms, now_ms),
        )
    return made


def _gpus(runner: pb.Runner) -> Text:
    if not runner.HasField("inventory"):
        return Text("not connected yet", "dim")
    text = Text(fmt.gpu_types([gpu.type for gpu in runner.inventory.gpus]) or "none")
    return text.append(" simulated", "yellow") if runner.inventory.simulated else text


def _facts(runner: pb.Runner, now_ms: int) -> Table:
    box = runner.inventory
    vram = " + ".join(dict.fromkeys(f"{fmt.size(gpu.vram_bytes)} each" for gpu in box.gpus))
    capability = ", ".join(dict.fromkeys(gpu.compute_capability for gpu in box.gpus if gpu.compute_capability))
    rows: list[tuple[str, str | Text]] = [
        ("name", Text(runner.name, "bold")),
        ("status", runner_status(runner, now_ms)),
        *(("suspended", _suspension(one)) for one in runner.suspensions),
        ("job", runner.job_id),
        ("rate", f"{fmt.rate(runner.rate_micros)} of training" if runner.rate_micros else ""),
        ("GPUs", _gpus(runner)),
        ("VRAM", vram),
        ("compute capability", capability),
        ("driver", box.driver_version),
        ("CPU", f"{box.cpu_cores} cores, {fmt.size(box.cpu_ram_bytes)}" if box.cpu_cores else ""),
        (
            "disk",
            f"{fmt.size(box.disk_free_bytes)} free of {fmt.size(box.disk_total_bytes)}" * bool(box.disk_total_bytes),
        ),
        ("host", ", ".join(part for part in (box.hostname, box.platform) if part)),
        ("agent", runner.agent_version),
        ("labels", fmt.labels(runner.labels)),
        ("heard", "now" if runner.connected else fmt.ago(runner.last_contact_at_ms, now_ms)),
        ("created", fmt.moment(runner.created_at_ms)),
        ("id", Text(runner.runner_id, "dim")),
    ]
    return facts(*rows)


def _suspension(one: pb.Suspension) -> str:
    until = f" until {fmt.moment(one.until_ms)}" if one.until_ms else ""
    return f"by {_OWNERS.get(one.owner, 'somebody')}{until}{': ' + one.reason if one.reason else ''}"


def _changed(runner: pb.Runner, as_json: bool) -> None:
    if as_json:
        print_json(runner)
        return
    now_ms = PlatformClock().now_ms()
    rows = [("suspended", _suspension(one)) for one in runner.suspensions]
    console().print(Text(f"{runner.name}  ", "bold") + runner_status(runner, now_ms))
    if rows:
        console().print(facts(*rows))


def _how_to_install(platform: Platform, name: str) -> None:
    """The commands for the box. The key goes through the prompt or the environment: it must not lie in a history."""
    server: Address = platform.settings.endpoints["scheduler"]
    out, quoted = console(), shlex.quote(name)
    out.print("On the box (it asks for the key, or takes it from TETHER_RUNNER_KEY):\n")
    out.print(f"  tether-runner install --server {server} --name {escape(quoted)}", soft_wrap=True)
    out.print(f"  tether-runner start --name {escape(quoted)}\n", soft_wrap=True)
    if server.loopback:
        out.print(f"[dim]{server} can be reached from this machine only.[/]", soft_wrap=True)
    out.print('[dim]No GPU at hand? Add --simulate-gpus "NVIDIA A10G:1" to install; it trains on the CPU.[/]')
