"""Subcommands that write what a user starts from: a campaign file, its schema, the shell's completion."""

from __future__ import annotations

from pathlib import Path

import click

from workflow import completion
from workflow.face import examples


@click.command(
    short_help="Write a commented campaign file to start from.",
    epilog=examples(
        "campaign init                             list the templates",
        "campaign init quickstart                  write quickstart.yaml",
        "campaign init hpo --into search.yaml      write under another name",
        "campaign init hpo --schema                with a schema beside it, for editors",
    ),
)
@click.argument("template", required=False, shell_complete=completion.templates)
@click.option("--into", type=click.Path(path_type=Path), metavar="FILE", help="File to write; default: TEMPLATE.yaml here.")
@click.option("--schema", is_flag=True, help="Write campaign.schema.json beside it, and name it in the first line.")
@click.option("--force", is_flag=True, help="Overwrite a file that stands there.")
def init(template: str | None, into: Path | None, schema: bool, force: bool) -> None:
    """Write a commented campaign file to start from."""
    from workflow.templates import templates, write_template

    if template is None:
        for name, title in templates().items():
            click.echo(f"{name:<12} {title}")
        return
    path = write_template(template, into or Path(f"{template}.yaml"), force, schema=schema)
    click.echo(f"wrote {path}; next: campaign check {path}")


@click.command(
    short_help="Print the JSON schema of campaign files, for editors.",
    epilog=examples(
        "campaign schema --into campaign.schema.json",
        "campaign schema | jq '.properties | keys'",
    ),
)
@click.option("--into", type=click.Path(path_type=Path), metavar="FILE", help="File to write instead.")
def schema(into: Path | None) -> None:
    """Print the JSON schema (2020-12) of campaign files: completion, hints and faults in an editor.

    An editor with a YAML language server takes it from the file's first line:
    `# yaml-language-server: $schema=campaign.schema.json`
    """
    from workflow.templates import schema_text, write_schema

    if into is None:
        click.echo(schema_text(), nl=False)
    else:
        click.echo(f"wrote {write_schema(into)}")


@click.command(
    name="completion",
    short_help="Print what makes a shell complete `campaign`.",
    epilog=examples(
        'eval "$(campaign completion bash)"                                in ~/.bashrc',
        'eval "$(campaign completion zsh)"                                 in ~/.zshrc, after compinit',
        "campaign completion fish > ~/.config/fish/completions/campaign.fish",
    ),
)
@click.argument("shell", type=click.Choice(completion.SHELLS))
@click.pass_context
def complete(ctx: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete subcommands, options, stages, templates, sites and data sets."""
    click.echo(completion.script(ctx.find_root().command, shell))
