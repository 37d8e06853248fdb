"""``cts config``: no secret is printed, and every deployed key is reported on."""

from __future__ import annotations

import json
import re
import stat
import tomllib
from pathlib import Path

import pytest

from cts_core.config.env_file import read_env_file
from cts_core.config.load import describe_settings, load_settings
from cts_jupyter.cli.config_import import import_config, to_toml
from cts_jupyter.cli.deployed_config import IN_ENVIRONMENT, IN_FILE
from tests.harness.cli import Run
from tests.harness.paths import ROOT

DEPLOY = ROOT / "deploy"
JAWS = ["lawrencium-jaws", "perlmutter-jaws"]
DEPLOYED = Path(__file__).with_name("deployed.toml")
VARIABLES = Path(__file__).with_name("deployed_variables.txt").read_text().split()


@pytest.mark.slow
def test_check_shows_each_setting_and_its_source(run: Run, tmp_path: Path):
    file = tmp_path / "cts.toml"
    file.write_text('preset = "service"\nmax_cpu_hours = 5\n[mongo]\nhost = "m:1"\n')
    more = {"CTS_CONFIG": str(file), "CTS_MAX_CPU_HOURS": "7", "CTS_S3__ACCESS_SECRET": "hide-me"}
    shown = run("config", "check", "--json", more=more)
    assert shown.returncode == 1
    assert "hide-me" not in shown.stdout + shown.stderr
    response = json.loads(shown.stdout)
    rows = {row["setting"]: (row["value"], row["from"]) for row in response["settings"]}
    assert rows["max_cpu_hours"] == ("7", "the environment")
    assert rows["mongo.host"] == ("m:1", str(file))
    assert rows["records"] == ("mongo", "preset service")
    assert rows["s3.access_secret"] == ("(set, not shown)", "the environment")
    assert "clean_age_days" not in rows
    assert "s3.url is needed, because objects is s3" in response["offences"]
    plain = run("config", "check", "--all", more=more).stdout
    assert "clean_age_days" in plain
    assert "wrong: s3.url is needed" in plain


@pytest.mark.slow
@pytest.mark.parametrize("is_whole", [False, True], ids=["as it is", "with all in its comments"])
def test_example_configuration_is_valid_and_has_no_secret(
    run: Run, tmp_path: Path, *, is_whole: bool
):
    lines = (DEPLOY / "cts.env.example").read_text().splitlines()
    secrets = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    text = (DEPLOY / "cts.toml").read_text()
    if is_whole:
        text = re.sub(r"(?m)^# (?=\[\w+\]$|\w+ = )", "", text)
    (tmp_path / "cts.toml").write_text(text)
    more = {"CTS_CONFIG": str(tmp_path / "cts.toml")}
    shown = run("config", "check", more={**more, **secrets})
    assert (shown.returncode, shown.stdout.splitlines()[-1]) == (0, "nothing is wrong")
    assert ("htcondor.initialdir" in shown.stdout) == is_whole
    assert ("note: sites names no site" in shown.stdout) != is_whole
    without = run("config", "check", "--json", more=more)
    assert set(json.loads(without.stdout)["offences"]) == {
        "s3.access_key is needed, because objects is s3",
        "s3.access_secret is needed, because objects is s3",
    }


@pytest.mark.slow
def test_example_of_the_staging_service_is_valid_and_has_no_secret(run: Run):
    more = {"CTS_CONFIG": str(DEPLOY / "refdata.toml")}
    shown = run("config", "check", "--json", more=more)
    assert set(json.loads(shown.stdout)["offences"]) == {
        "refdata.cts_token is needed, because preset is refdata",
        "s3.access_key is needed, because objects is s3",
        "s3.access_secret is needed, because objects is s3",
    }
    secrets = {
        "CTS_S3__ACCESS_KEY": "k",
        "CTS_S3__ACCESS_SECRET": "s",
        "CTS_REFDATA__CTS_TOKEN": "t",
    }
    assert run("config", "check", more={**more, **secrets}).returncode == 0


@pytest.mark.slow
def test_check_of_valid_settings(run: Run):
    shown = run("config", "check")
    assert shown.returncode == 0
    assert "nothing is wrong" in shown.stdout


@pytest.mark.slow
def test_check_of_unknown_settings(run: Run):
    wrong = {"CTS_HOUSE": "1", "CTS_MONGO__HOST": "mongodb://u:hide@h"}
    wrong |= {"CTS_MONGO__PASWORD": "hide", "CTS_S3": '{"access_secret": "hide"}'}
    wrong |= {"CTS_KAFKA__TOPIC__PASSWORD": "hide"}
    shown = run("config", "check", more=wrong)
    assert shown.returncode == 1
    assert "house is not a setting" in shown.stdout
    assert "mongo.pasword is not a setting; did you mean mongo.password?" in shown.stdout
    assert "s3 is a section" in shown.stdout
    assert "kafka.topic: Input should be a valid string" in shown.stdout
    assert "hide" not in shown.stdout


def test_every_deployed_key_and_variable_is_accounted_for():
    file = tomllib.loads(DEPLOYED.read_text())
    keys = {(section, key) for section, keys in file.items() for key in keys}
    assert keys <= IN_FILE.keys()
    assert set(VARIABLES) <= IN_ENVIRONMENT.keys()
    imported = import_config(file, dict.fromkeys(VARIABLES, ""))
    assert len(imported.report) == len(keys) + len(VARIABLES)
    assert imported.unknown == []
    known = {name for name, _, _ in describe_settings()}
    fates = [*IN_FILE.values(), *IN_ENVIRONMENT.values()]
    assert all(fate.reason or fate.setting in known | {"test_mode"} for fate in fates)


@pytest.mark.slow
def test_imported_configuration_is_valid(run: Run, tmp_path: Path):
    secrets = tmp_path / "secrets.env"
    shown = run("config", "import", str(DEPLOYED), "--secrets", str(secrets))
    assert shown.returncode == 0, shown.stderr
    assert "-secret" not in shown.stdout.replace("s3_secret", "") + shown.stderr
    assert "check_unsent_messages_on_startup_delay_min: kafka.send_foreign" in shown.stderr
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    file = tmp_path / "cts.toml"
    file.write_text(shown.stdout)
    settings = load_settings(environ={"CTS_CONFIG": str(file), **read_env_file(secrets)})
    assert settings.kbase.admin_roles == ["CTS_ADMIN", "OTHER_ADMIN"]
    assert settings.allowed_paths == ["cts-data", "other/path"]
    assert (settings.mongo.retry_writes, settings.s3.allow_insecure_external) == (False, True)
    assert settings.mongo.password.get_secret_value() == "mongo-pwd-secret"
    assert (settings.max_cpu_hours, settings.clean_frequency_hours) == (200, 24)
    assert (settings.htcondor.clientgroup, settings.htcondor.use_s3_external_url) == (
        "cdmcts",
        False,
    )
    assert (settings.root_url, settings.group) == ("https://apis.example.org/services/cts", "prod")
    assert (settings.root_path, settings.prefixes) == ("", ["", "/services/cts"])
    assert settings.sites == ["kbase", "lawrencium-jaws", "perlmutter-jaws"]
    jaws = settings.jaws
    assert (jaws.user, jaws.refdata_root_dir) == ("cdmuser", "/global/refdata")
    assert (jaws.staging_dir_dtn, jaws.staging_dir_perlmutter) == (
        "/global/staging",
        "/pscratch/staging",
    )
    assert (jaws.sfapi_cred_path, jaws.remote_code_dir) == ("/creds/sfapi.pem", "/global/cfs/cts")
    assert (jaws.url, jaws.group) == ("https://jaws.example.org", "kbase")
    assert jaws.token.get_secret_value() == "jaws-token-secret"
    assert "https://hub.berdl.kbase.us" in settings.cors_origins
    refdata = settings.refdata
    assert (refdata.server_url, refdata.local_path) == ("https://ref.example.org", "/refdata")
    assert refdata.cts_token.get_secret_value() == "staging-token-secret"
    assert refdata.server_token.get_secret_value() == "ref-token-secret"
    # It never writes over a file.
    again = run("config", "import", str(DEPLOYED), "--secrets", str(secrets))
    assert again.returncode == 1


def test_import_takes_the_proxy_of_jaws():
    imported = import_config({}, {"JAWS_HTTPS_PROXY": "socks5://proxy.example.org:1080"})
    assert imported.settings["jaws.proxy"] == "socks5://proxy.example.org:1080"


@pytest.mark.parametrize(
    ("section", "key", "variables", "notes", "sites"),
    [
        ("HTCondor", "clientgroup", {}, ["site kbase is on", "site perlmutter-jaws is on"], ["kbase", *JAWS]),
        ("HTCondor", "initialdir", {}, ["site kbase stays off: HTCondor is not configured"], JAWS),
        ("HTCondor", "clientgroup", {"KBCTS_SKIP_KBASE": "true"}, ["site kbase stays off: KBCTS_SKIP_KBASE"], JAWS),
        ("HTCondor", "clientgroup", {"KBCTS_SKIP_NERSC": "true"}, ["site lawrencium-jaws stays off: KBCTS_SKIP_NERSC"], ["kbase"]),
        ("JAWS", "token", {}, ["site kbase is on", "site lawrencium-jaws stays off: JAWS is not configured"], ["kbase"]),
        ("JAWS", "token", {"KBCTS_JAWS_TOKEN": "t"}, ["site lawrencium-jaws is on"], ["kbase", *JAWS]),
        ("Service", "group_id", {"KBCTS_MODE": "refdata"}, [], []),
    ],
)  # fmt: skip
def test_import_says_which_sites_are_on(section, key, variables, notes, sites):
    file = tomllib.loads(DEPLOYED.read_text())
    file[section][key] = ""
    imported = import_config(file, variables)
    assert imported.settings.get("sites", []) == sites
    assert [start for start in notes if not any(n.startswith(start) for n in imported.notes)] == []
    assert any(note.startswith("site ") for note in imported.notes) == bool(notes)


@pytest.mark.parametrize(
    ("root_path", "prefixes"),
    [("", ["/"]), ("/services/cts", ["/", "/services/cts"]), ("cts/", ["/", "/cts"])],
)
def test_import_serves_where_the_deployed_service_does(root_path, prefixes):
    imported = import_config({"Service": {"root_path": root_path}}, {"KBCTS_PORT": "5011"})
    assert imported.values["prefixes"] == prefixes
    assert imported.notes[-1].endswith("--port=5011")


@pytest.mark.slow
def test_unknown_keys_and_contradictions_are_reported(run: Run, tmp_path: Path):
    file = tmp_path / "old.toml"
    file.write_text(DEPLOYED.read_text() + '\n[Odd]\nkey = "x"\n')
    shown = run("config", "import", str(file), more={"KBCTS_MONGO_DB": "other", "KBCTS_ODD": "1"})
    assert shown.returncode == 1
    assert "[Odd] key: unknown" in shown.stderr
    assert "KBCTS_ODD: unknown" in shown.stderr
    assert "KBCTS_MONGO_DB says something else" in shown.stderr
    assert 'db = "cts"' in shown.stdout


@pytest.mark.slow
def test_variables_alone(run: Run):
    more = {"KBCTS_KAFKA_TOPIC_JOBS": "t", "KBCTS_JOB_MAX_CPU_HOURS": "many"}
    shown = run("config", "import", "-", more=more)
    assert tomllib.loads(shown.stdout)["kafka"] == {"topic": "t", "send_foreign": False}
    assert tomllib.loads(shown.stdout)["preset"] == "service"
    staging = run("config", "import", "-", more={"KBCTS_MODE": "refdata"})
    assert tomllib.loads(staging.stdout)["preset"] == "refdata"
    assert "wrong: KBCTS_JOB_MAX_CPU_HOURS" in shown.stderr
    assert "kafka.bootstrap_servers is needed" in shown.stderr


@pytest.mark.parametrize(
    ("minutes", "is_sent"), [(None, False), ("", False), ("0", False), ("1", True), ("10", True)]
)
def test_old_unsent_messages_are_sent_as_the_deployed_service_has_it(
    minutes: str | None, *, is_sent: bool
):
    name = "KBCTS_KAFKA_STARTUP_UNSENT_MSG_DELAY_MIN"
    imported = import_config({}, {} if minutes is None else {name: minutes})
    assert tomllib.loads(to_toml(imported))["kafka"]["send_foreign"] is is_sent
    assert not imported.wrong


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("mongodb://ana:it%27s%20%24secret@h1:27017,h2/db?tls=true", "mongodb://h1:27017,h2/db?tls=true"),
        ("mongodb+srv://ana:it's+$secret@cluster.example.org", "mongodb+srv://cluster.example.org"),
        ("ana:it's $secret@h1", "h1"),
        ("mongodb://ana:it's $secret@x@h1", "mongodb://h1"),
    ],
)  # fmt: skip
def test_password_in_a_url_is_a_secret(run: Run, tmp_path: Path, host: str, expected: str):
    secrets = tmp_path / "secrets.env"
    more = {"KBCTS_MONGO_HOST": host, "KBCTS_S3_ACCESS_SECRET": "a 'b' $(touch x)\\"}
    shown = run("config", "import", "-", "--secrets", str(secrets), more=more)
    assert "secret@" not in shown.stdout + shown.stderr
    assert "$secret" not in shown.stdout + shown.stderr
    assert "%24secret" not in shown.stdout + shown.stderr
    mongo = tomllib.loads(shown.stdout)["mongo"]
    assert (mongo["host"], mongo["user"]) == (expected, "ana")
    kept = read_env_file(secrets)
    assert kept["CTS_MONGO__PASSWORD"].startswith("it's $secret")
    assert kept["CTS_S3__ACCESS_SECRET"] == "a 'b' $(touch x)\\"
    # What reads them is ours, too.
    checked = run("--env-file", str(secrets), "config", "check", "--json")
    settings = {row["setting"]: row for row in json.loads(checked.stdout)["settings"]}
    assert settings["mongo.password"]["value"] == "(set, not shown)"
    assert settings["mongo.password"]["from"] == "the environment"


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("KBCTS_S3_URL", "https://ana:hidden@s3.example.org"),
        ("KBCTS_KBASE_AUTH2_URL", "https://hidden@auth.example.org"),
        ("KBCTS_MONGO_HOST", "mongodb://h/?tlsCertificateKeyFilePassword=hidden"),
    ],
)
def test_credentials_elsewhere_are_refused_and_not_printed(run: Run, variable: str, url: str):
    shown = run("config", "import", "-", more={variable: url})
    assert shown.returncode == 1
    assert f"wrong: {variable} holds credentials" in shown.stderr
    assert "hidden" not in shown.stdout + shown.stderr
    name = "CTS_MONGO__HOST" if "MONGO" in variable else "CTS_S3__URL"
    assert "hidden" not in run("config", "check", more={name: url}).stdout


def test_environment_file_that_cannot_be_read(run: Run, tmp_path: Path):
    (tmp_path / "bad.env").write_text("CTS_METRICS_TOKEN=two words\n")
    shown = run("--env-file", str(tmp_path / "bad.env"), "config", "check")
    assert shown.returncode == 1
    assert "line 1 is not NAME=value" in shown.stderr
    assert "words\n" not in shown.stdout + shown.stderr


def test_text_is_quoted_for_toml():
    odd = 'a "quoted" \\ é\ttab'
    imported = import_config({"Service": {"root_url": odd}}, {})
    assert tomllib.loads(to_toml(imported))["root_url"] == odd
