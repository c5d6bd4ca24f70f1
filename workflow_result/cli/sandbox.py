"""The command for a local Service Catalog: sandbox."""

import click

from workflow_result.cli.options import Command, debug_option
from workflow_result.cli.output import print_line


@click.command(cls=Command)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=4510,
    show_default=True,
    help="Port on 127.0.0.1; 0 takes a free one.",
)
@click.option(
    "--record",
    "records",
    metavar="RECORD_ID",
    multiple=True,
    default=["rec-demo", "rec-notify", "rec-run"],
    show_default=True,
    help="A record that waits for its result. Repeatable.",
)
@click.option(
    "--misbehave",
    metavar="KIND[:TIMES]",
    multiple=True,
    help="Answer the first TIMES results wrongly, or all of them; repeatable, in this order. "
    "KIND: throttle, unavailable, broken, access-denied, expired-token, invalid, bad-signature, "
    "quote, drop, drop-after, half, rubbish, silent.",
)
@click.option(
    "--delay",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=0,
    help="Take this long over each result.",
)
@debug_option
def sandbox(port: int, records: tuple[str, ...], misbehave: tuple[str, ...], delay: float) -> None:
    """Run a local Service Catalog endpoint, to try everything without an AWS account.

    It takes results for its records, answers DescribeRecord and SearchProvisionedProducts, and
    prints its URL on stdout.
    It listens on 127.0.0.1 alone and forgets everything when it ends.

    \b
    Example, ended with Ctrl-C:
      MAIN_PY sandbox --misbehave throttle:1
    """
    from workflow_result.sandbox import serve

    serve(port, records, misbehave, delay, announce=print_line)
