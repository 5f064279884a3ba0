"""`cascade apply`: the plan, a question, the deployment. The work is pyinfra's."""

from __future__ import annotations

from pathlib import Path

import click

from cascade.commands.arguments import (
    limit_option,
    lock_wait_option,
    part_options,
    prune_option,
    report_option,
    reschedule_option,
    restart_option,
    stand_ins_option,
)
from cascade.commands.deployment import deploy, deploy_as_shown, refuse_without_terminal
from cascade.commands.failures import Mistake
from cascade.planning.plan_file import NoPlan, PlanFile, read


@click.command()
@click.argument(
    "subject",
    metavar="INVENTORY|PLANFILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@limit_option
@part_options
@prune_option
@reschedule_option
@stand_ins_option
@restart_option
@lock_wait_option
@report_option
@click.pass_context
def command(
    context: click.Context, /, subject: Path, yes: bool, limit: tuple[str, ...], **options: object
) -> None:
    """Show what would change, ask, and change it; or carry out a plan that `cascade plan --out` saved.

    A saved plan is carried out exactly, without a question, and not at all when the hosts have moved since
    it was made.
    """
    if subject.suffix == ".py":
        refuse_without_terminal(yes)
        deploy_as_shown(subject, limit, options, "Apply this?", yes)
    saved = _plan_in(subject)
    _refuse_other_choices(context)
    run_options = saved.options.model_dump(exclude={"limit"}) | {
        name: options[name] for name in ("allow_docker_restart", "lock_wait", "report")
    }
    deploy(Path(saved.inventory), saved.options.limit, {**run_options, "plan_file": subject.absolute()})


def _plan_in(path: Path) -> PlanFile:
    try:
        return read(path.read_text(encoding="utf-8"))
    except NoPlan as error:
        raise Mistake(f"{path} {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise Mistake(f"{path} is no inventory, which ends in .py, and no plan file: {error}") from error


def _refuse_other_choices(context: click.Context) -> None:
    """A saved plan has its own; what is chosen beside it would make it another plan."""
    for name in ("limit", "group", "from_group", "prune", "reschedule", "stand_ins"):
        if context.params[name]:
            raise click.UsageError(
                f"--{name.replace('_', '-')} stands in the plan file, or is not part of it"
            )
