#!/usr/bin/python3
"""The command ``jaws`` on Perlmutter, as far as CTS uses it: ``jaws submit --tag TAG WDL INPUTS SITE``."""

import argparse
import configparser
import json
import os
import stat
import sys
import urllib.error
import urllib.request
from pathlib import Path

URL = "@URL@"


def main():
    parser = argparse.ArgumentParser(prog="jaws")
    submit = parser.add_subparsers(required=True).add_parser("submit")
    submit.add_argument("--tag", required=True)
    for name in ("wdl", "inputs", "site"):
        submit.add_argument(name)
    asked = parser.parse_args()
    path = Path(os.environ.get("JAWS_USER_CONFIG", Path.home() / "jaws.conf"))
    if not path.exists():
        sys.exit(f"The config file {path} does not exist")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        sys.exit(f"The config file {path} must have the mode 600")
    config = configparser.ConfigParser()
    config.read(path)
    user = config["USER"]
    if not user.get("default_team"):
        sys.exit("No team is set")
    for file in (asked.wdl, asked.inputs):
        if not Path(file).is_file():
            sys.exit(f"{file}: no such file")
    content = {
        "tag": asked.tag,
        "site": asked.site,
        "wdl": str(Path(asked.wdl).absolute()),
        "inputs": str(Path(asked.inputs).absolute()),
    }
    request = urllib.request.Request(
        URL,
        json.dumps(content).encode(),
        {"Authorization": f"Bearer {user['token']}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as e:
        sys.exit(f"Error: {e.read().decode(errors='replace')}")
    except OSError as e:
        sys.exit(f"Error: {e}")
    notice, place = answer.pop("notice"), answer.pop("notices")
    if place != "none":
        print(notice, file=getattr(sys, place))
    print(json.dumps(answer, indent=4))


main()
