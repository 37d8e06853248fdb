"""The command line ``cts``: its commands and their arguments."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from cts_core.config.env_file import use_env_file
from cts_core.config.load import check_platform
from cts_core.errors import ConfigError, CTSError, UnavailableError
from cts_core.model.site import SiteName
from cts_core.version import VERSION
from cts_jupyter.cli import adopt, config, config_import, jobs, openapi, sites
from cts_jupyter.cli.output import CommandError, Status, print_error
from cts_jupyter.times import parse_duration

Command = Callable[[argparse.Namespace], Status | Coroutine[Any, Any, Status]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    command: Command = arguments.command
    try:
        check_platform()
        if arguments.env_file is not None:
            use_env_file(arguments.env_file)
        status = command(arguments)
        return asyncio.run(status) if asyncio.iscoroutine(status) else int(status)
    except UnavailableError as e:
        print_error(f"cts: {e}")
        return Status.UNAVAILABLE
    except (ConfigError, CommandError, CTSError) as e:
        print_error(f"cts: {e}")
        return Status.PROBLEM
    except BrokenPipeError:
        return Status.OK  # the reader of a pipe, such as head, has ended
    except KeyboardInterrupt:
        print_error("cts: interrupted; what was done so far stays done")
        return Status.PROBLEM


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``cts`` with all of its commands."""
    parser = argparse.ArgumentParser(
        prog="cts",
        description="Operates a CTS by its stores, also while its servers are down.",
        epilog="Settings are read as the server reads them: CTS_CONFIG, cts.toml, CTS_ variables.",
    )
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument(
        "--env-file",
        type=Path,
        metavar="FILE",
        help="read variables from this file, too; those of the environment count more",
    )
    nouns = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_config(nouns.add_parser("config", help="look at settings, or take over deployed ones"))
    _add_jobs(nouns.add_parser("jobs", help="find out about jobs, and move what is stuck"))
    _add_adopt(nouns.add_parser("adopt", help="decide about jobs that another program left live"))
    _add_sites(nouns.add_parser("sites", help="try out a site"))
    spec = nouns.add_parser("openapi", help="print the description of the REST API")
    spec.set_defaults(command=openapi.show)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    check = verbs.add_parser("check", help="what is set, from where, and what is wrong")
    check.add_argument("--all", action="store_true", help="show settings at their default, too")
    _add_json(check)
    check.set_defaults(command=config.check)
    import_ = verbs.add_parser(
        "import", help="make a cts.toml of the deployed service's configuration"
    )
    import_.add_argument(
        "file", type=Path, metavar="FILE", help="its TOML file; - for the variables alone"
    )
    import_.add_argument(
        "--secrets",
        type=Path,
        metavar="FILE",
        help="write secrets to this new file (0600), for --env-file and systemd; they are printed nowhere",
    )
    import_.set_defaults(command=config_import.run)


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    why = verbs.add_parser("why", help="why a job is where it is")
    _add_job(why)
    _add_json(why)
    why.set_defaults(command=jobs.why)
    stuck = verbs.add_parser(
        "stuck", help="live jobs that have not moved for longer than they should"
    )
    stuck.add_argument(
        "--for", dest="timeout", type=_duration, metavar="TIME", help="any for so long"
    )
    _add_json(stuck)
    stuck.set_defaults(command=jobs.stuck)
    retry = verbs.add_parser(
        "retry", help="take a live job as far as it can go now, and say what stops it"
    )
    _add_job(retry)
    retry.set_defaults(command=jobs.retry)
    fail = verbs.add_parser("fail", help="end a live job as an error, stopping what runs of it")
    _add_job(fail)
    fail.add_argument("--reason", required=True, help="what its owner is told")
    fail.set_defaults(command=jobs.fail)


def _add_adopt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("jobs", nargs="*", metavar="JOB", help="only these; all without")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--continue", dest="go_on", action="store_true", help="drive them from now on"
    )
    choice.add_argument("--fail", action="store_true", help="end them as errors")
    parser.add_argument(
        "--older-than", type=_duration, metavar="TIME", help="not moved for so long"
    )
    parser.add_argument(
        "--newer-than", type=_duration, metavar="TIME", help="moved within that time"
    )
    parser.add_argument("--reason", help="what owners of failed jobs are told")
    _add_json(parser)
    parser.set_defaults(command=adopt.run)


def _add_sites(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    check = verbs.add_parser("check", help="whether a site can be used from here")
    check.add_argument("site", choices=[name.value for name in SiteName], metavar="SITE")
    _add_json(check)
    check.set_defaults(command=sites.check)


def _add_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="its id, or the beginning of it")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for scripts")


def _duration(text: str) -> timedelta:
    try:
        # A number alone is seconds to scripts.
        return parse_duration(f"{text}s" if text.strip().isdecimal() else text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e
