"""Writes the pages of docs/reference from the protos, the settings and the catalogue: `python docs/generate.py`.

What they say is written once, as comments in protos/, as descriptions in the services' settings, and in
services/scheduler/architectures.toml.
"""

import importlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import annotated_types
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from pydantic.fields import FieldInfo

from protos.training.v1.training_pb2 import Architecture, Requirements, RequirementsBasis, Task
from services.eventlog.catalogue import EVENTS
from services.gateway.bootstrap import Settings as GatewaySettings
from services.rpc.credentials import NOBODY
from services.rpc.roles import ROLES
from services.rpc.settings import ListenSettings, ServiceSettings
from services.scheduler.catalogue import ARCHITECTURES, read_architectures

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("eventlog", "scheduler", "quota", "metrics")
RPC_FILES = ("scheduler", "quota", "metrics", "eventlog")

_GENERATED = "<!-- Written by docs/generate.py; change the source and run it again. -->"

_EVENTS_INTRO = """# Events

Everything that happens is appended to one log and never changed afterwards. An event is a message of the package
`tether.events.v1` in the envelope `EventRecord`; PostgreSQL stores the two, NATS carries them on the subject
`tether.events.<workspace>.<stream kind>.<event>`, and `EventLogService` ([RPCs](rpcs.md)) reads them back.

Within a stream the versions are contiguous, and within the log the positions are: whoever has seen position *n* has
seen everything up to *n*. Numbers that end in `_ms` are milliseconds, `_us` microseconds, `_micros` millionths."""

_RPCS_INTRO = """# RPCs

Every server answers reflection and `grpc.health.v1`, so any gRPC client can explore it.
[The gateway](../how-to/gateway.md) has the RPCs of all of them at one address, for gRPC-Web too. A call carries a
token as the metadata `authorization: Bearer tt_…` (a runner: its secret key, `tk_…`). For example, with `buf` from
the virtual environment, the scheduler's address from `tether whoami` and the token from `client.toml`:

```sh
buf curl --protocol grpc --http2-prior-knowledge -H "authorization: Bearer $TETHER_TOKEN" \\
    http://127.0.0.1:PORT/tether.scheduler.v1.RunnerService/ListRunners
```

- **Roles**: viewer, member, admin and analyst are roles of a workspace's tokens; `operator` is the platform's own
  token, `runner` a box with its secret key. Another workspace's ids are answered as if they did not exist.
- **`request_id`**: a UUID of the caller's. A repeat of the same request gets the first answer and changes nothing;
  the same id with another content is refused.
- **`position`** in an answer is the log position of the change; **`min_position`** in a later request waits until the
  answer knows it, from whichever service it comes.
- A failed call carries a status code, one sentence that says what to do, and one of the
  [details of refusals](#details-of-refusals)."""

_ARCHITECTURES_INTRO = """# Architectures

What can be trained, and what it needs at its default batch and image size: the **Model Compute Requirements**. A runner
with less than the minimum is refused, with both numbers; with less than the recommended, it is accepted with a warning.
`tether train architectures` shows the same.

VRAM is for each GPU, at 20 classes, in 32-bit floating point, for the batch on one GPU; a smaller batch, mixed
precision or `--accumulate` needs less, which the minimum does not follow. *Computed*: the peak of a training step
(weights, gradients, AdamW's two moments, activations) by torch's memory tracker, without a GPU. *Measured*: what torch
has allocated on the GPU that is named.

- minimum = peak × 1.1 + context of the driver + 0.25 GiB for cuDNN's workspace, up to the next 0.5 GiB (the context is
  0.5 GiB where it was not measured)
- recommended = peak × 1.5 + the same: room for the evaluation
- RAM = training process (0.5 GiB) + what the driver takes of the host (0.5 GiB) + decoded images (0.5 GiB) + a
  checkpoint (12 bytes a parameter); recommended: × 1.5, and 1 GiB for the processes that decode images

Parameters are counted with the classes of the published weights, or 10 where there are none. Weights named below are
published on the Hugging Face hub; [how to bring them to a box](../how-to/pretrained-weights.md)."""

_GATEWAY_INTRO = """`python -m services.gateway` is no server: it writes the configuration of Envoy, which is one; see
[the gateway](../how-to/gateway.md)."""

_CONFIGURATION_INTRO = """# Configuration

Each service is a process, `python -m services.NAME`. Its settings come from the command line, else the environment,
else a TOML file (`--config FILE`, or `TETHER_CONFIG`), else the default; `--help` prints them. A wrong value stops
the start with one sentence. `tether up` sets for its services what they need; further variables of its environment
reach them as well.

## Programs on a person's machine and on a box

| Environment | Read by | What |
| --- | --- | --- |
| `TETHER_HOME` | `tether` | Data directory of the platform on this machine, as `--data-dir`, with `client.toml`. |
| `TETHER_SERVER` | `tether` | A platform elsewhere: `https://host:port`, or `host:port` on this machine. |
| `TETHER_TOKEN` | `tether` | The token for it, `tt_…`; `--token-file` names a file instead. |
| `TETHER_RUNNER_KEY` | `tether-runner install` | The runner's secret key, instead of the prompt or `--key-file`. |
| `TETHER_RUNNER_STATE` | `tether-runner` | The folder of one runner's state, as `--state-dir`. |

## Every service"""

Message: TypeAlias = DescriptorProto | EnumDescriptorProto
Comments: TypeAlias = dict[tuple[int, ...], str]


class Protos:
    """All messages and enums by full name, with the comments of their sources."""

    def __init__(self) -> None:
        self.files = [file for file in _compile().file if file.package.startswith("tether.")]
        self.comments = {file.name: dict(_comments(file)) for file in self.files}
        self.types: dict[str, tuple[FileDescriptorProto, tuple[int, int], Message]] = {}
        for file in self.files:
            for index, message in enumerate(file.message_type):
                self.types[f".{file.package}.{message.name}"] = file, (4, index), message
            for index, enum in enumerate(file.enum_type):
                self.types[f".{file.package}.{enum.name}"] = file, (5, index), enum

    def package(self, package: str) -> Iterator[FileDescriptorProto]:
        return (file for file in self.files if file.package == package)

    def needed_by(self, names: Iterable[str]) -> list[str]:
        """The types that these messages are made of, and theirs, in the order of the sources; without themselves."""
        names = list(names)
        found, waiting = set(names), list(names)
        while waiting:
            new = {field.type_name for field in self._fields(waiting.pop()) if field.type_name in self.types} - found
            found |= new
            waiting += new
        return [name for name in self.types if name in found and name not in names]

    def comment(self, name: str) -> str:
        file, path, _ = self.types[name]
        return self.comments[file.name].get(path, "")

    def section(self, name: str, links: dict[str, str], heading: str) -> list[str]:
        """A type under its heading: what it is, and a table of what it holds."""
        file, path, one = self.types[name]
        lines = [f"{heading} {one.name}", "", *_paragraph(self.comment(name))]
        if isinstance(one, EnumDescriptorProto):
            comments = self.comments[file.name]
            values = [(value.name, comments.get((*path, 2, index), "")) for index, value in enumerate(one.value)]
            return lines + _table(("Value", "Meaning"), [(f"`{value}`", text) for value, text in values])
        return lines + self.fields(name, links)

    def fields(self, name: str, links: dict[str, str]) -> list[str]:
        file, path, one = self.types[name]
        assert isinstance(one, DescriptorProto)
        rows = []
        for index, field in enumerate(one.field):
            comment = self.comments[file.name].get((*path, 2, index), "")
            if field.HasField("oneof_index") and not field.proto3_optional:
                comment = f"One of `{one.oneof_decl[field.oneof_index].name}`. {comment}".rstrip()
            rows.append((f"`{field.name}`", _type(one, field, links), comment))
        return _table(("Field", "Type", "Meaning"), rows) if rows else ["No fields.", ""]

    def _fields(self, name: str) -> Iterator[Field]:
        one = self.types[name][2]
        if isinstance(one, DescriptorProto):
            yield from one.field
            for nested in one.nested_type:
                yield from nested.field


def _compile() -> FileDescriptorSet:
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "protos").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "protos.bin"
        flags = ["--proto_path=.", "--include_source_info", f"--descriptor_set_out={out}"]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *flags, *sources], cwd=ROOT, check=True)
        return FileDescriptorSet.FromString(out.read_bytes())


def _comments(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    for place in file.source_code_info.location:
        if place.leading_comments:
            yield tuple(place.path), " ".join(place.leading_comments.split())


def _introduction(file: FileDescriptorProto) -> str:
    """The comment that stands by itself at the head of a proto file."""
    alone = (text for place in file.source_code_info.location for text in place.leading_detached_comments)
    return " ".join(next(alone, "").split())


def _type(message: DescriptorProto, field: Field, links: dict[str, str]) -> str:
    entry = next((one for one in message.nested_type if field.type_name.endswith(f"{message.name}.{one.name}")), None)
    if entry is not None:
        key, value = (_type(entry, one, links) for one in entry.field)
        return f"map of {key} to {value}"
    if field.type_name:
        short = field.type_name.rsplit(".", 1)[1]
        name = f"[{short}]({links[field.type_name]})" if field.type_name in links else short
    else:
        name = Field.Type.Name(field.type).removeprefix("TYPE_").lower()
    if field.label == Field.LABEL_REPEATED:
        return f"list of {name}"
    return f"{name}, optional" if field.proto3_optional else name


def _paragraph(text: str) -> list[str]:
    return [text, ""] if text else []


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    cells = [heading, ("---",) * len(heading), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return [*(f"| {' | '.join(row)} |" for row in cells), ""]


def _anchor(heading: str) -> str:
    """The anchor that GitHub gives to a heading of letters, digits, spaces and dots."""
    return "#" + heading.lower().replace(".", "").replace(" ", "-")


def events(protos: Protos) -> tuple[str, dict[str, str]]:
    """The page of all events, and where each type on it can be linked to."""
    names = [f".tether.events.v1.{name}" for name in EVENTS]
    parts = protos.needed_by(names)
    links = {name: _anchor(protos.types[name][2].name) for name in (*names, *parts)}
    lines = [_GENERATED, _EVENTS_INTRO, "", "## The envelope", ""]
    lines += protos.fields(".tether.eventlog.v1.EventRecord", links)
    for file in protos.package("tether.events.v1"):
        mine = [name for name in names if protos.types[name][0] is file]
        kind = Path(file.name).stem
        lines += [f"## Events of a {kind}", "", _introduction(file), ""]
        for name in mine:
            lines += protos.section(name, links, "###")
    lines += ["## Parts of events", ""]
    for name in parts:
        lines += protos.section(name, links, "###")
    return "\n".join(lines), {name: f"events.md{anchor}" for name, anchor in links.items()}


def rpcs(protos: Protos, elsewhere: dict[str, str]) -> str:
    """The page of all services, their RPCs and messages."""
    files = [file for area in RPC_FILES for file in protos.package(f"tether.{area}.v1") if file.service]
    calls = [(file, service, method) for file in files for service in file.service for method in service.method]
    exchanged = {name for _, _, method in calls for name in (method.input_type, method.output_type)}
    parts = [name for name in protos.needed_by(sorted(exchanged)) if name not in elsewhere]
    links = elsewhere | {name: _anchor(protos.types[name][2].name) for name in parts}
    lines = [_GENERATED, _RPCS_INTRO, ""]
    for file in files:
        for at, service in enumerate(file.service):
            comments = protos.comments[file.name]
            lines += [f"## {service.name}", "", f"`{file.package}.{service.name}` — {comments[6, at]}", ""]
            for index, method in enumerate(service.method):
                roles = sorted(ROLES[f"/{file.package}.{service.name}/{method.name}"])
                lines += [f"### {service.name}.{method.name}", "", comments[6, at, 2, index], ""]
                lines += [f"Roles: {', '.join(roles)}." if roles != [NOBODY] else "Needs no token.", ""]
                for word, streams, name in (
                    ("Request", method.client_streaming, method.input_type),
                    ("Answer", method.server_streaming, method.output_type),
                ):
                    told = f" {protos.comment(name)}".rstrip()
                    lines += [f"{word}{' (a stream)' if streams else ''}:{told}", "", *protos.fields(name, links)]
    lines += ["## Parts of messages", ""]
    for name in parts:
        lines += protos.section(name, links, "###")
    (errors,) = (file for file in protos.files if file.name.endswith("errors.proto"))
    lines += ["## Details of refusals", "", _introduction(errors), ""]
    for message in errors.message_type:
        lines += protos.section(f".{errors.package}.{message.name}", links, "###")
    return "\n".join(lines)


def architectures() -> str:
    """The page of all architectures, by task."""
    found = read_architectures(ARCHITECTURES).values()
    lines = [_GENERATED, _ARCHITECTURES_INTRO, ""]
    for task in Task.values():
        rows = [_architecture(one) for one in found if one.task == task]
        if rows:
            lines += [f"## {Task.Name(task).removeprefix('TASK_').capitalize()}", ""]
            lines += _table(
                ("Name", "What", "Parameters", "VRAM min / rec", "RAM min / rec", "Batch × image", "Basis", "Weights"),
                rows,
            )
    return "\n".join(lines)


def _architecture(one: Architecture) -> tuple[str, ...]:
    needs, gib = one.requirements, 1 << 30
    return (
        f"`{one.architecture_id}`",
        one.description,
        f"{one.parameters / 1_000_000:,.1f} M",
        f"{needs.min_gpu_vram_bytes / gib:g} / {needs.recommended_gpu_vram_bytes / gib:g} GiB",
        f"{needs.min_cpu_ram_bytes / gib:g} / {needs.recommended_cpu_ram_bytes / gib:g} GiB",
        f"{needs.batch_size} × {needs.image_size} px",
        _basis(needs),
        f"`{one.pretrained}`" if one.pretrained else "none",
    )


def _basis(needs: Requirements) -> str:
    peak = f"peak {needs.peak_vram_bytes / (1 << 30):.2f} GiB"
    if needs.basis == RequirementsBasis.REQUIREMENTS_BASIS_MEASURED:
        return f"measured on {needs.measured_on}, {peak}"
    return f"computed, {peak}"


def configuration() -> str:
    """The page of all settings of all services."""
    lines = [_GENERATED, _CONFIGURATION_INTRO, "", *_settings(ServiceSettings, ())]
    for service in SERVICES:
        model = importlib.import_module(f"services.{service}.bootstrap").Settings
        own = _settings(model, ServiceSettings.model_fields)
        lines += [f"## {service}", "", *(own or ["No settings of its own.", ""])]
    lines += ["## gateway", "", _GATEWAY_INTRO, "", *_settings(GatewaySettings, ("insecure",))]
    return "\n".join(lines)


def _settings(model: type[ListenSettings], known: Iterable[str]) -> list[str]:
    fields = {name: field for name, field in model.model_fields.items() if name not in known}
    rows = [(f"`{name}`", f"`TETHER_{name.upper()}`", _default(field), _told(field)) for name, field in fields.items()]
    return _table(("Setting", "Environment", "Default", "What"), rows) if rows else []


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, Path):
        return f"`{field.default.relative_to(ROOT)}`"
    return f"`{field.default}`" if field.default != "" else "empty"


def _told(field: FieldInfo) -> str:
    notes = [getattr(field.annotation, "__name__", str(field.annotation)).lower()]
    for rule in field.metadata:
        if isinstance(rule, annotated_types.Ge):
            notes.append(f"at least {rule.ge:,}")
        elif isinstance(rule, annotated_types.Le):
            notes.append(f"at most {rule.le:,}")
    return f"{field.description} ({', '.join(notes)})"


def pages() -> dict[str, str]:
    """File name below docs/reference → text."""
    protos = Protos()
    events_page, links = events(protos)
    return {
        name: text.rstrip() + "\n"
        for name, text in (
            ("events.md", events_page),
            ("rpcs.md", rpcs(protos, links)),
            ("configuration.md", configuration()),
            ("architectures.md", architectures()),
        )
    }


if __name__ == "__main__":
    for file_name, content in pages().items():
        (ROOT / "docs" / "reference" / file_name).write_text(content)
