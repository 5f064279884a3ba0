"""`cascade doctor`: what stands in the way of a deployment, and what to do about it. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from cascade.commands.arguments import (
    chosen,
    fingerprint_option,
    inventory_argument,
    json_option,
    limit_option,
    stand_ins_option,
)
from cascade.documents import DoctorDocument, json_of
from cascade.exit_codes import ATTENTION, ERROR, UNREACHABLE
from cascade.model.strict import printable
from cascade.planning.gpu import Vram
from cascade.planning.preflight import Finding, errors, worth_saying
from cascade.vram_report import gpu_document, show_gpus
from operations.preflight import ask_on_terminal, by_host, connect_each, diagnose, never
from operations.run import Stopped
from operations.session import disconnected, load

_WORST_FIRST = ("error", "warning", "unchecked", "note", "ok")
_COLOURS = {"error": "red", "warning": "yellow", "ok": "green"}


@click.command()
@inventory_argument
@click.option("--trust", is_flag=True, help="Show unknown host keys, to accept them one by one.")
@fingerprint_option
@limit_option
@json_option
@stand_ins_option
@click.option(
    "--allow-docker-restart",
    is_flag=True,
    help="A restart of Docker may stop containers that are not Cascade's.",
)
def command(
    inventory: Path,
    trust: bool,
    fingerprint: tuple[str, ...],
    limit: Iterable[str],
    as_json: bool,
    **options: bool,
) -> None:
    """Check the hosts before a deployment, without changing them.

    Exit code 0: nothing found; 2: warnings; 1: errors; 6: a host is unreachable.
    """
    try:
        run = load(inventory, limit, chosen(options))
    except Stopped as stopped:
        if as_json:
            click.echo(json_of(DoctorDocument, document(_of_files(stopped.messages))))
        raise
    with disconnected(run):
        unreachable = connect_each(run, trust or bool(fingerprint), fingerprint)
        found = diagnose(run, never if as_json else ask_on_terminal)
        findings = by_host(run, (*unreachable, *found.findings))
    told = document(findings, found.gpus)
    if as_json:
        click.echo(json_of(DoctorDocument, told))
    else:
        show_gpus(told["gpus"], Console())
        _show(findings)
    if code := exit_code(findings):
        raise SystemExit(code)


def exit_code(findings: Iterable[Finding]) -> int:
    """6 before 1 before 2."""
    findings = tuple(findings)
    if any(finding.check == "reachable" and finding.level == "error" for finding in findings):
        return UNREACHABLE
    if errors(findings):
        return ERROR
    return ATTENTION if worth_saying(findings) else 0


def _of_files(messages: Iterable[str]) -> list[Finding]:
    return [Finding("", "files", "error", message) for message in messages]


def document(findings: Iterable[Finding], gpus: Iterable[Vram] = ()) -> dict[str, Any]:
    """The findings for a program: every check of every host, and in full what is not well."""
    findings = tuple(findings)
    hosts: dict[str, dict[str, str]] = {}
    for finding in sorted(findings, key=lambda finding: _WORST_FIRST.index(finding.level)):
        if finding.host:
            hosts.setdefault(finding.host, {}).setdefault(finding.check, finding.level)
    return {
        "ready": not errors(findings),
        "hosts": hosts,
        "gpus": [gpu_document(vram) for vram in gpus],
        "findings": [
            {
                "host": finding.host,
                "check": finding.check,
                "level": finding.level,
                "message": finding.message,
                "next_step": finding.next_step,
            }
            for finding in findings
            if finding.level != "ok"
        ],
    }


def _show(findings: Iterable[Finding]) -> None:
    """One line a check, its next step beneath, and at the end what it comes to."""
    findings = tuple(findings)
    hosts = {finding.host: [each for each in findings if each.host == finding.host] for finding in findings}
    width = max((len(finding.check) for finding in findings), default=0)
    for host, found in hosts.items():
        click.secho(host, bold=True)
        for finding in found:
            level = click.style(f"{finding.level:<9}", fg=_COLOURS.get(finding.level))
            click.echo(f"  {level} {finding.check:<{width}}  {printable(finding.message)}")
            if finding.next_step:
                click.echo(f"  {'':<9} {'':<{width}}  next: {printable(finding.next_step)}")
    wrong, doubtful = len(errors(findings)), len(worth_saying(findings)) - len(errors(findings))
    verdict = "not ready" if wrong else "ready"
    click.echo(f"{verdict}: {wrong} errors and {doubtful} warnings on {len(hosts)} hosts")
