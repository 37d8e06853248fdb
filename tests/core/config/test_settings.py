"""Settings: their sources, their defaults and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import platformdirs
import pydantic
import pytest
from platformdirs.macos import MacOS
from platformdirs.unix import Unix

from cts_core.config import host, load
from cts_core.config.load import check_platform, describe_settings, load_settings
from cts_core.config.settings import Preset
from cts_core.errors import ConfigError
from cts_core.model.site import SiteName


def refusal(
    overrides: dict[str, Any] | None = None, environ: dict[str, str] | None = None
) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_settings(overrides, environ=environ or {})
    first, *lines = str(error.value).splitlines()
    assert first == "CTS cannot start:"
    assert all(line.startswith("- ") for line in lines)
    return [line.removeprefix("- ") for line in lines]


@pytest.fixture
def toml(tmp_path):
    def write(text: str) -> dict[str, str]:
        (tmp_path / "cts.toml").write_text(text)
        return {"CTS_CONFIG": str(tmp_path / "cts.toml")}

    return write


# -- sources -----------------------------------------------------------------------------------


def test_defaults(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    settings = load_settings(environ={})
    assert settings.preset is Preset.EMBEDDED
    assert (settings.home, settings.objects_dir) == (tmp_path / "cts", tmp_path / "cts" / "objects")
    assert (settings.identity, settings.records, settings.objects, settings.events) == (
        "jupyter",
        "sqlite",
        "directory",
        "memory",
    )
    assert settings.sites == [SiteName.LOCAL]
    assert (settings.allowed_paths, settings.cors_origins) == ([], [])
    assert (settings.max_cpu_hours, settings.clean_age_days) == (100, 30)
    assert settings.log_dir == "cts-logs/container_logs"
    assert settings.local.log_limit == 16 * 1024 * 1024
    assert settings.local.cpus >= 1
    assert settings.local.memory >= 1_000_000


def test_precedence_of_sources(toml):
    environ = toml(
        "max_cpu_hours = 1\nclean_age_days = 1\n[local]\ncpus = 1\nmemory = 1000001\nlog_limit = 5001"
    )
    environ |= {"CTS_CLEAN_AGE_DAYS": "2", "CTS_LOCAL__MEMORY": "2000002", "CTS_LOCAL__CPUS": "2"}
    settings = load_settings({"local": {"cpus": 3}}, environ=environ)
    assert (settings.max_cpu_hours, settings.clean_age_days) == (1, 2)
    # A section is merged, not replaced.
    assert settings.local.cpus == 3
    assert (settings.local.memory, settings.local.log_limit) == (2_000_002, 5001)


def test_lists_in_the_environment_are_separated_by_commas():
    settings = load_settings(
        environ={
            "CTS_ALLOWED_PATHS": "data/{user}/, data/shared",
            "CTS_CORS_ORIGINS": "https://hub.example.org,http://localhost:8888",
            "CTS_SITES": "local",
        }
    )
    assert settings.allowed_paths == ["data/{user}", "data/shared"]
    assert settings.cors_origins == ["https://hub.example.org", "http://localhost:8888"]
    assert settings.sites == [SiteName.LOCAL]


def test_empty_variable_is_ignored():
    settings = load_settings(
        {"home": "/x"}, environ={"CTS_OBJECTS_DIR": "", "CTS_ALLOWED_PATHS": ""}
    )
    assert (settings.objects_dir, settings.allowed_paths) == (Path("/x/objects"), [])


@pytest.mark.parametrize("variable", ["HOME", "XDG_CONFIG_HOME"])
def test_cts_toml_in_the_users_configuration_folder(tmp_path, variable):
    folder = tmp_path / ".config" if variable == "HOME" else tmp_path
    environ = {variable: str(tmp_path)}
    assert load_settings(environ=environ).max_cpu_hours == 100
    (folder / "cts").mkdir(parents=True)
    (folder / "cts" / "cts.toml").write_text("max_cpu_hours = 7")
    assert load_settings(environ=environ).max_cpu_hours == 7
    # One that is named wins.
    assert load_settings(environ={**environ, "CTS_CONFIG": os.devnull}).max_cpu_hours == 100


def test_process_environment_is_the_default(monkeypatch, toml):
    for name in [name for name in os.environ if name.startswith(("CTS_", "JUPYTERHUB_", "CDM_"))]:
        monkeypatch.delenv(name)
    for name, text in {**toml("max_cpu_hours = 7"), "CTS_CLEAN_AGE_DAYS": "3"}.items():
        monkeypatch.setenv(name, text)
    settings = load_settings()
    assert (settings.max_cpu_hours, settings.clean_age_days) == (7, 3)


def test_unreadable_file_is_refused(tmp_path, toml):
    for environ in ({"CTS_CONFIG": str(tmp_path / "none.toml")}, toml("a = "), toml("\x00")):
        with pytest.raises(ConfigError, match=r"\.toml cannot be read as TOML: "):
            load_settings(environ=environ)


def test_paths_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    settings = load_settings({"home": "here", "objects_dir": "~/objects"}, environ={})
    assert (settings.home, settings.objects_dir) == (tmp_path / "here", tmp_path / "me" / "objects")


def test_settings_are_frozen():
    settings = load_settings(environ={})
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        settings.max_cpu_hours = 1
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        settings.local.cpus = 1


def test_variables_with_the_prefix_that_are_no_settings():
    load_settings(environ=dict.fromkeys(load.NOT_SETTINGS - {"CTS_CONFIG"}, "1"))
    load_settings(
        environ={"PATH": "/bin", "cts_lower": "x", "XCTS_Y": "z", "CTS_CONFIG": os.devnull}
    )


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("max_cpu_hour", "; did you mean max_cpu_hours?"),
        ("homes", "; did you mean home?"),
        ("locl", "; did you mean local?"),
        ("nothing_like_it", ""),
    ],
)
def test_unknown_names_are_refused_from_every_source(toml, key, suggestion):
    expected = [f"{key} is not a setting{suggestion}"]
    assert refusal({key: 1}) == expected
    assert refusal(environ={f"CTS_{key.upper()}": "1"}) == expected
    assert refusal(environ=toml(f"{key} = 1")) == expected


def test_unknown_names_of_a_section(toml):
    expected = ["local.cpu is not a setting; did you mean local.cpus?"]
    assert refusal({"local": {"cpu": 1}}) == expected
    assert refusal(environ={"CTS_LOCAL__CPU": "1"}) == expected
    assert refusal(environ=toml("[local]\ncpu = 1")) == expected
    assert refusal(environ={"CTS_HOME__X": "1"}) == ["home.x is not a setting; did you mean home?"]
    assert refusal(environ={"CTS_LOCL__CPUS": "1"}) == [
        "locl.cpus is not a setting; did you mean local.cpus?"
    ]


SERVICE = {
    "preset": "service",
    "mongo": {"host": "mongo.example.org:27017", "user": "cts", "password": "pw-secret"},
    "s3": {"url": "https://s3.example.org", "access_key": "key", "access_secret": "s3-secret"},
    "kafka": {"bootstrap_servers": "kafka.example.org:9092", "topic": "cts-jobs"},
    "kbase": {"auth_url": "https://auth.example.org/services/auth", "admin_roles": "CTS_ADMIN"},
}


def test_preset_changes_defaults(toml):
    settings = load_settings(SERVICE, environ={})
    chosen = (settings.identity, settings.records, settings.objects, settings.events)
    assert chosen == ("kbase", "mongo", "s3", "kafka")
    assert (settings.sites, settings.log_format) == ([], "json")
    # The preset may be named anywhere, and weighs less than anything.
    environ = toml('preset = "service"\nrecords = "sqlite"\nobjects = "directory"')
    environ |= {"CTS_EVENTS": "memory", "CTS_IDENTITY": "jupyter", "CTS_SITES": "local"}
    settings = load_settings(environ=environ)
    chosen = (settings.identity, settings.records, settings.objects, settings.events)
    assert chosen == ("jupyter", "sqlite", "directory", "memory")
    assert (settings.sites, settings.log_format) == ([SiteName.LOCAL], "json")


def test_missing_settings_of_a_choice_are_named():
    assert refusal({"preset": "service"}) == [
        "kbase.auth_url is needed, because identity is kbase",
        "kbase.admin_roles is needed, because identity is kbase",
        "mongo.host is needed, because records is mongo",
        "s3.url is needed, because objects is s3",
        "s3.access_key is needed, because objects is s3",
        "s3.access_secret is needed, because objects is s3",
        "kafka.bootstrap_servers is needed, because events is kafka",
        "kafka.topic is needed, because events is kafka",
    ]
    assert refusal({"events": "kafka", "kafka": {"topic": "x"}}) == [
        "kafka.bootstrap_servers is needed, because events is kafka"
    ]


def test_conflicting_settings_are_refused():
    (line,) = refusal({**SERVICE, "objects": "directory", "sites": "local"})
    assert line.startswith("sites: local runs programs without isolation")
    load_settings({**SERVICE, "sites": "local", "local": {"shared": True}}, environ={})
    # What isolates has to be named: auto might find apptainer.
    settings = load_settings(
        {**SERVICE, "sites": "local", "local": {"runtime": "podman"}}, environ={}
    )
    assert not settings.takes_programs
    (line,) = refusal({**SERVICE, "sites": "local", "local": {"runtime": "apptainer"}})
    assert line.startswith("sites: local runs programs without isolation")
    (line,) = refusal({"mongo": {"user": "cts"}})
    assert line == "mongo.user and mongo.password go together: set both, or neither"


def test_secrets_are_never_shown():
    for name, value in (
        ("mongo", {"host": "mongodb://u:hidden@host"}),
        ("s3", {"url": "https://u:hidden@host"}),
        ("s3", {"url": "https://host", "access_secret": ["hidden"]}),
        ("mongo", {"password": {"hidden": 1}}),
        ("metrics_token", ["hidden"]),
        ("s3", "hidden"),
        ("s3", {"acces_secret": "hidden"}),
    ):
        lines = refusal({**SERVICE, name: value})
        assert lines
        assert "hidden" not in "".join(lines)
    shown = repr(load_settings(SERVICE, environ={}))
    assert not [secret for secret in ("pw-secret", "s3-secret") if secret in shown]


def test_section_cannot_be_set_as_a_whole():
    """As JSON in a variable, which other programs take."""
    (line,) = refusal(environ={"CTS_S3": '{"access_secret": "hidden"}'})
    assert line.startswith("s3 is a section, whose settings are set one by one: as CTS_S3__")
    assert "hidden" not in line


def test_value_given_for_a_section_is_not_shown(toml):
    assert refusal(environ=toml('[records]\nuser = "cts"\npassword = "hidden"')) == [
        "records: Input should be 'sqlite' or 'mongo'"
    ]
    assert refusal(environ={"CTS_MONGO__HOST__PASSWORD": "hidden"}) == [
        "mongo.host: Input should be a valid string"
    ]
    assert refusal({"kafka": {"bootstrap_servers": [["hidden"]]}}) == [
        "kafka.bootstrap_servers.0: Input should be a valid string"
    ]


def test_unavailable_sites_are_refused():
    (line,) = refusal({"sites": ["local", "perlmutter"]})
    assert line.startswith(
        "sites.1: perlmutter is not available in this release; use perlmutter-jaws or"
    )
    assert load_settings({"sites": []}, environ={}).sites == []


JAWS = {
    **SERVICE,
    "sites": "perlmutter-jaws,lawrencium-jaws",
    "root_url": "https://cts.example.org/cts",
    "group": "prod",
    "jaws": {
        "user": "cdm_ts",
        "sfapi_cred_path": "/creds/sfapi",
        "token": "t",
        "refdata_root_dir": "/global/dna/kbase/reference/jaws",
    },
}


def test_missing_settings_of_the_sites_of_jaws_are_named():
    told = refusal({"sites": "lawrencium-jaws"})
    assert [
        line.partition(" is needed, because sites has lawrencium-jaws")[0] for line in told
    ] == [
        "sites: lawrencium-jaws has helpers at NERSC that read and write S3 by links: set objects to s3",
        "sites: lawrencium-jaws gets its reference data from perlmutter-jaws: name both, or perlmutter-jaws alone",
        "group",
        "jaws.user",
        "jaws.sfapi_cred_path",
        "jaws.token",
        "jaws.refdata_root_dir",
        "root_url",
    ]
    settings = load_settings(JAWS, environ={})
    assert settings.sites == [SiteName.PERLMUTTER_JAWS, SiteName.LAWRENCIUM_JAWS]
    # What the deployed service has where it is not told otherwise (docs/reference/contract-jaws.md §1).
    assert (settings.jaws.staging_dir_dtn, settings.jaws.staging_dir_perlmutter) == (
        "/global/pscratch/sd/k/kbjaws/kbase-prod",
        "/pscratch/sd/k/kbjaws/kbase-prod",
    )
    assert settings.jaws.remote_code_dir == "/global/cfs/cdirs/kbase/cdm_task_service"
    assert (settings.jaws.url, settings.jaws.group) == ("https://jaws-api.jgi.doe.gov", "kbase")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("staging_dir_dtn", "scratch"),
        ("sfapi_cred_path", "sfapi"),
        ("proxy", "proxy.example.org"),
        ("proxy", "socks5://user:secret@proxy.example.org"),
        ("url", "jaws.example.org"),
        ("max_calls_s", 0),
    ],
)
def test_wrong_settings_of_jaws_are_refused(setting: str, value: object):
    (line,) = refusal({**JAWS, "jaws": {**JAWS["jaws"], setting: value}})
    assert line.startswith(f"jaws.{setting}: ")
    assert "secret" not in line


def test_missing_settings_of_the_site_kbase_are_named():
    told = " ".join(
        refusal({"sites": "kbase", "refdata": {"server_url": "https://x/cts", "server_token": "t"}})
    )
    assert "htcondor.refdata_host_path is needed, because refdata.server_url is set" in told
    for name in ("identity", "objects", "root_url", "htcondor.initialdir"):
        assert name in told
    enough = {
        **SERVICE,
        "sites": "kbase",
        "root_url": "https://cts.example.org/cts",
        "htcondor": {
            "initialdir": "/condor_workdir",
            "executable_path": "/old/executable.sh",
            "archive_url": "https://files.example.org/code.tgz",
        },
    }
    assert load_settings(enough, environ={}).sites == [SiteName.KBASE]
    for file in ({}, {"archive_path": "/old/code.tgz", "archive_url": "https://x.example.org/c"}):
        htcondor = {"initialdir": "/work", "executable_path": "/old/executable.sh", **file}
        (line,) = refusal({**enough, "htcondor": htcondor})
        assert "htcondor.archive_" in line
    own = {**enough, "htcondor": {"initialdir": "/work"}}
    assert load_settings(own, environ={}).htcondor.sends_own_worker
    (line,) = refusal({**enough, "htcondor": enough["htcondor"] | {"cache_dir": "$(x)"}})
    assert line.startswith("htcondor.cache_dir")


def test_all_errors_are_reported_at_once(toml):
    lines = refusal(
        {"home": 3, "records": "paper"},
        {
            **toml("[local]\ncpus = 0\nmemori = 1"),
            "CTS_MAX_CPU_HOURS": "lots",
            "CTS_HOMES": "x",
            "JUPYTERHUB_USER": "ana",
        },
    )
    told = [line.partition(":")[0].partition(" ")[0] for line in lines]
    assert sorted(told) == sorted(
        ["this", "home", "records", "max_cpu_hours", "local.cpus", "local.memori", "homes"]
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("owner", ""),
        ("owner", "a/b"),
        ("owner", "a\nb"),
        ("max_cpu_hours", 0),
        ("max_cpu_hours", "inf"),
        ("max_cpu_hours", "nan"),
        ("clean_age_days", 0),
        ("clean_age_days", 1e9),
        ("home", "~no-such-user-here/x"),
        ("log_dir", "logs"),
        ("log_dir", "Logs/x"),
        ("allowed_paths", ["/data"]),
        ("cors_origins", ["*"]),
        ("cors_origins", ["https://hub.example.org/"]),
        ("cors_origins", ["hub.example.org"]),
        ("root_url", "cts.example.org"),
        ("root_path", "apis"),
        ("root_path", "/a//b"),
        ("prefixes", ["apis"]),
        ("prefixes", [""]),
        ("group", "a b"),
        ("log_format", "xml"),
        ("local", 3),
        ("local", {"cpus": 0}),
        ("local", {"memory": "10"}),
        ("local", {"stop_grace": -1}),
    ],
)
def test_invalid_values_are_refused(setting, value):
    (line,) = refusal({setting: value})
    assert line.startswith(f"{setting}")


@pytest.mark.parametrize(
    ("log_dir", "allowed", "errors"),
    [
        ("logs/a", ["data/a", "data/b"], 0),
        ("logs/a", ["logs/ab", "log-s", "logs/b"], 0),
        ("logs/a", ["logs"], 1),
        ("logs/a", ["logs/a/b"], 1),
        ("logs/a", ["logs/a"], 1),
        ("logs/a", ["data", "data/{user}"], 1),
        ("logs/a", ["data/ana", "data/{user}/"], 1),
        ("logs/a", ["logs/a/x", "data/a", "data/a/b"], 2),
    ],
)
def test_overlapping_folders_are_refused(log_dir, allowed, errors):
    given = {"log_dir": log_dir, "allowed_paths": allowed, "owner": "ana"}
    if not errors:
        load_settings(given, environ={})
        return
    lines = refusal(given)
    assert len(lines) == errors
    assert all("lie one within the other; move one of them" in line for line in lines)


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ("log_dir", "logs/../data"),
        ("log_dir", "logs/./x"),
        ("log_dir", "logs//x"),
        ("allowed_paths", "data/../{user}"),
        ("allowed_paths", "data/./{user}/"),
        ("allowed_paths", "data/{user}/.."),
    ],
)
def test_folders_that_lead_elsewhere_are_refused(setting, path):
    (line,) = refusal({setting: path})
    assert setting in line


def test_an_owner_whose_name_leads_elsewhere_has_no_folder():
    (line,) = refusal({"allowed_paths": ["data/{user}"], "owner": ".."})
    assert line == (
        "allowed_paths.0: Path 'data/../' may not have the part '..': name what is meant without it"
    )


def test_overlapping_folders_of_many_users_are_refused():
    """The owner's name means nothing then, and nobody has the name of a folder."""
    given = {
        "identity": "kbase",
        "sites": [],
        "kbase": {"auth_url": "https://kbase.example.org/auth", "admin_roles": ["A"]},
        "log_dir": "data/logs",
        "owner": "logs",
    }
    load_settings({**given, "allowed_paths": ["data/{user}", "data/shared"]}, environ={})
    (line,) = refusal({**given, "allowed_paths": ["data/{user}", "data/{user}/x"]})
    assert "lie one within the other" in line


@pytest.mark.parametrize(
    "folder", ["/srv/cts", "/srv", "/", "/srv/cts/local", "/srv/cts/local/jobs"]
)
def test_objects_folder_must_not_contain_the_records(folder):
    (line,) = refusal({"home": "/srv/cts", "objects_dir": folder})
    assert line.startswith(f"objects_dir ({folder}) must be a folder of its own")
    load_settings({"home": "/srv/cts", "objects_dir": "/srv/objects"}, environ={})


# -- where embedded is not meant -----------------------------------------------------------------


@pytest.mark.parametrize(
    "environ", [{"JUPYTERHUB_API_TOKEN": "very-secret"}, {"JUPYTERHUB_USER": "ana"}]
)
def test_embedded_under_jupyterhub_must_be_explicit(environ, toml):
    (line,) = refusal(environ=environ)
    assert "set CDM_TASK_SERVICE_URL to its URL" in line
    assert "set preset to embedded (CTS_PRESET=embedded)" in line
    assert "very-secret" not in line
    assert load_settings({"preset": "embedded"}, environ=environ)
    assert load_settings(environ={**environ, "CTS_PRESET": "embedded"})
    assert load_settings(environ={**environ, **toml('preset = "embedded"')})


def test_the_hubs_user_is_the_owner_unless_one_is_set(toml):
    hub = {"JUPYTERHUB_USER": "ana@example.org"}
    assert load_settings({"preset": "embedded"}, environ=hub).owner == "ana@example.org"
    set_ = toml('preset = "embedded"\nowner = "jovyan"')
    assert load_settings(environ={**hub, **set_}).owner == "jovyan"


URL = "https://hub.example.org/apis/cts"
ELSEWHERE = {"CDM_TASK_SERVICE_URL": f"{URL}/"}


@pytest.mark.parametrize("hub", [{}, {"JUPYTERHUB_USER": "ana"}])
def test_service_url_alone_selects_remote(hub, toml):
    settings = load_settings(environ={**hub, **ELSEWHERE})
    assert (settings.preset, settings.remote.url) == (Preset.REMOTE, URL)
    assert settings.remote.token_file == Path("~/.berdl_kbase_session")
    assert not settings.remote.allow_insecure
    # Whatever else is set is kept, and weighs more.
    other = toml("[remote]\nurl = 'http://other:5000'\ntimeout_s = 3")
    settings = load_settings(environ={**hub, **ELSEWHERE, **other})
    assert (settings.remote.url, settings.remote.timeout_s) == ("http://other:5000", 3)
    assert load_settings({"preset": "remote"}, environ=ELSEWHERE).remote.url == URL


def test_explicit_preset_wins_over_the_service_url():
    settings = load_settings({"preset": "embedded"}, environ={"CDM_TASK_SERVICE_URL": "?"})
    assert (settings.preset, settings.remote.url) == (Preset.EMBEDDED, "")


def test_remote_requires_a_url_and_refuses_engine_settings():
    assert refusal({"preset": "remote"}) == ["remote.url is needed, because preset is remote"]
    (line,) = refusal({"records": "mongo", "mongo": {"host": "x"}}, ELSEWHERE)
    assert line.startswith("records has no meaning with preset remote")
    (line,) = refusal({"sites": []}, ELSEWHERE)
    assert line.startswith("sites has no meaning with preset remote")
    (line,) = refusal({"remote": {"url": URL}})
    assert line.startswith("remote.url is used by preset remote alone, and preset is embedded")


STAGING = {
    "kbase": {"auth_url": "https://auth.example.org", "admin_roles": ["A"]},
    "s3": {"url": "http://s3:9000", "access_key": "k", "access_secret": "s"},
    "refdata": {
        "local_path": "/data",
        "metadata_path": "/sums",
        "cts_url": "https://x/cts",
        "cts_token": "hide-me",
    },
}


def test_deployed_variable_selects_the_staging_service(tmp_path: Path):
    mode = {"KBCTS_MODE": "refdata"}
    settings = load_settings(STAGING, environ=mode)
    assert (settings.preset, settings.identity, settings.sites) == (Preset.REFDATA, "kbase", [])
    file = tmp_path / "cts.toml"
    file.write_text('preset = "service"')
    shared = {"CTS_CONFIG": str(file), **mode}
    assert load_settings(STAGING, environ=shared).preset is Preset.REFDATA
    here = load_settings({}, environ={"CTS_PRESET": "embedded", **mode})
    assert here.preset is Preset.EMBEDDED
    assert load_settings({}, environ={"KBCTS_MODE": "other"}).preset is Preset.EMBEDDED


def test_staging_service_requires_and_refuses_settings():
    refused = refusal({"preset": "refdata"})
    for name in ("local_path", "metadata_path", "cts_url", "cts_token"):
        assert f"refdata.{name} is needed, because preset is refdata" in refused
    given = {"preset": "refdata", **STAGING}
    (line,) = refusal({**given, "sites": ["local"], "local": {"shared": True}})
    assert line.startswith("sites has no meaning with preset refdata")
    (line,) = refusal({**given, "identity": "jupyter"})
    assert line.endswith("set identity to kbase")
    (line,) = refusal({**given, "refdata": {**STAGING["refdata"], "metadata_path": "/data/sums"}})
    assert "lie one within the other" in line
    (line,) = refusal({**given, "refdata": {**STAGING["refdata"], "cts_token": "hide me"}})
    assert line == "refdata.cts_token: it has characters that no token has"
    (line,) = refusal({"refdata": {"server_url": "https://x/cts"}})
    assert "server_url and server_token go together" in line


@pytest.mark.parametrize(
    "url",
    [
        "hub.example.org",
        "ftp://hub.example.org",
        "https://",
        "https://user:pw@hub.example.org",
        "https://hub.example.org/cts?x=1",
        "https://hub.example.org/cts#x",
        "https://hub.example.org/../cts",
        "https://hub.example.org/a/./cts",
        "https://hub.example.org/%2e%2e/cts",
        "https://hub.example.org:x/cts",
        "https://hub.example.org:0/cts",
        "https://hub.example.org/a//cts",
    ],
)
def test_invalid_service_urls_are_refused(url):
    (line,) = refusal(environ={"CDM_TASK_SERVICE_URL": url})
    assert line.startswith("remote.url")
    assert "pw" not in line


def test_windows_is_refused(monkeypatch):
    check_platform()
    monkeypatch.setattr(sys, "platform", "win32")
    for refused in (check_platform, lambda: load_settings(environ={})):
        with pytest.raises(ConfigError, match=r"^CTS runs on Linux and macOS; [^\n]*$"):
            refused()


# -- documentation and machine -------------------------------------------------------------------


def test_every_setting_is_described():
    rows = list(describe_settings())
    assert len({name for name, _, _ in rows}) == len(rows) > 15
    for name, default, meaning in rows:
        assert meaning, name
        assert default, name
        assert "PydanticUndefined" not in default


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max 100000", 64), ("150000 100000", 2), ("1000 100000", 1), ("9900000 100000", 64)],
)
def test_cpus_respect_the_cgroup(monkeypatch, tmp_path, text, expected):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(host, "_CGROUP", tmp_path)
    assert host.cpus() == 64
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert host.cpus() == expected


def test_memory_respects_the_cgroup(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "_CGROUP", tmp_path)
    known = host.memory()
    for text, expected in (("max", known), ("123456789", 123_456_789), (str(known * 2), known)):
        (tmp_path / "memory.max").write_text(text + "\n")
        assert host.memory() == expected


@pytest.mark.parametrize("error", [KeyError, OSError, ImportError])
def test_user_without_a_name(monkeypatch, error):
    def nobody() -> str:
        raise error("no such user")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert load_settings(environ={}).owner == f"uid-{os.getuid()}"


class TestDataHome:
    @pytest.fixture(autouse=True)
    def _home(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("XDG_DATA_HOME", raising=False)

    @pytest.fixture
    def _macos(self, monkeypatch):
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(platformdirs, "PlatformDirs", MacOS)

    @pytest.fixture
    def _linux(self, monkeypatch):
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(platformdirs, "PlatformDirs", Unix)

    @pytest.mark.usefixtures("_linux")
    def test_linux(self, monkeypatch, tmp_path):
        assert host.data_home() == tmp_path / ".local" / "share" / "cts"
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
        assert host.data_home() == tmp_path / "xdg" / "cts"
        assert load_settings(environ={}).home == tmp_path / "xdg" / "cts"
        monkeypatch.setenv("XDG_DATA_HOME", "")
        assert host.data_home() == tmp_path / ".local" / "share" / "cts"

    @pytest.mark.usefixtures("_macos")
    def test_macos(self):
        assert host.data_home() == Path.home() / "Library" / "Application Support" / "cts"

    @pytest.mark.usefixtures("_macos")
    def test_existing_folder_on_macos_stays_despite_xdg(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
        folder = Path.home() / "Library" / "Application Support" / "cts"
        folder.mkdir(parents=True)
        assert host.data_home() == folder


@pytest.mark.slow
def test_configuration_imports_neither_jupyter_nor_tornado():
    code = (
        "import sys, cts_core.config.load; "
        "sys.exit(bool({'jupyter_server', 'tornado', 'IPython', 'traitlets'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
