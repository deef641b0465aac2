"""The layout of help: texts keep their line breaks, options can have sections, commands can have aliases."""

from collections.abc import Mapping
from typing import Any

import click


class HelpFormatter(click.HelpFormatter):
    """Writes descriptions and examples as they are: click would join their lines into paragraphs."""

    def write_text(self, text: str) -> None:
        for line in text.splitlines():
            self.write(f"{'':{self.current_indent}}{line}".rstrip() + "\n")


class Context(click.Context):
    formatter_class = HelpFormatter


class Option(click.Option):
    """An option that help shows under the heading `section`."""

    def __init__(self, *names: Any, section: str, **attributes: Any) -> None:
        super().__init__(*names, **attributes)
        self.section = section


class Examples(click.Command):
    """A command whose epilog keeps its indentation, which click would strip like a docstring's."""

    context_class = Context

    def get_help_option_names(self, ctx: click.Context) -> list[str]:
        """Return the same names for every command; click caches the help option that it builds first."""
        return ["-h", "--help"]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(self.epilog or "")


class Command(Examples):
    """A command whose options can have sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record and not isinstance(option, click.Argument):
                sections.setdefault(getattr(option, "section", "Options"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class CommandGroup(Examples, click.Group):
    """Commands in the order in which they were added; `aliases` are further names of some."""

    command_class = Command

    def __init__(self, *arguments: Any, aliases: Mapping[str, str] | None = None, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self._aliases = aliases or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, self._aliases.get(cmd_name, cmd_name))
