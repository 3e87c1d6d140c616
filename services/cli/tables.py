"""Tables as all commands draw them: no lines, dim headings, one thing a row."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def table(*headings: str, right: tuple[str, ...] = (), keep: tuple[str, ...] = ()) -> "Table":
    """An empty table. Columns in `right` are numbers; those in `keep` are never cut or wrapped."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        made.add_column(
            heading.upper(),
            justify="right" if heading in right else "left",
            no_wrap=heading in keep or heading in right,
            overflow="fold",
        )
    return made


def facts(*rows: "tuple[str, str | Text]") -> "Table":
    """Names and values below each other; rows without a value are left out."""
    from rich.table import Table
    from rich.text import Text

    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        if value:
            made.add_row(name, Text(value) if isinstance(value, str) else value)
    return made
