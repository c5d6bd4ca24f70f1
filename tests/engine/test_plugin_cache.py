"""Runs that share a plugin cache use it one after the other."""

import fcntl
from pathlib import Path

import pytest
from engine_cli import MESSAGE, Engine

from workflow_result.engine.plugin_cache import alone_in_cache


def holds(folder: Path) -> bool:
    """Whether somebody is alone in the cache."""
    with (folder / ".lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_cache_is_one_run_s_at_a_time(tmp_path: Path) -> None:
    environment = {"TF_PLUGIN_CACHE_DIR": str(tmp_path)}
    with alone_in_cache(environment, lambda: False):
        assert holds(tmp_path)
    assert not holds(tmp_path)


CONFIGURATIONS = {
    ".terraformrc": '# mine\nplugin_cache_dir = "FOLDER" # shared\ndisable_checkpoint = true\n',
    "named": '{"plugin_cache_dir": "FOLDER"}',
    ".terraform.d/cache.tfrc": 'host "example.com" {\n}\nplugin_cache_dir="FOLDER"',
}


@pytest.mark.parametrize("written", ["{}/cache", "$HOME/cache", "${{HOME}}/cache"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_cache_of_the_cli_configuration_is_one_run_s_at_a_time(
    tmp_path: Path, name: str, written: str
) -> None:
    environment = {"HOME": str(tmp_path)}
    if name == "named":
        environment["TF_CLI_CONFIG_FILE"] = str(tmp_path / name)
        (tmp_path / ".terraformrc").write_text('plugin_cache_dir = "/nowhere"')
    (tmp_path / "cache").mkdir()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(CONFIGURATIONS[name].replace("FOLDER", written.format(tmp_path)))
    with alone_in_cache(environment, lambda: False):
        assert holds(tmp_path / "cache")


@pytest.mark.parametrize("text", ["", "{", "[1]", "plugin_cache_dir = 1", "plugin_cache_dir = ("])
def test_configuration_that_names_none_stops_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / ".terraformrc").write_text(text)
    with alone_in_cache({"HOME": str(tmp_path)}, lambda: False):
        pass


def test_run_that_is_stopped_waits_for_nobody(tmp_path: Path) -> None:
    environment = {"TF_PLUGIN_CACHE_DIR": str(tmp_path)}
    with alone_in_cache(environment, lambda: False), alone_in_cache(environment, lambda: True):
        pass


@pytest.mark.parametrize("folder", ["", "/nowhere/at/all"])
def test_cache_that_is_none_stops_nothing(folder: str) -> None:
    with alone_in_cache({"TF_PLUGIN_CACHE_DIR": folder}, lambda: False):
        pass


def test_init_alone_holds_the_cache(engine: Engine) -> None:
    """A plan may take hours, an init that waits for one would, too."""
    cache = engine.home / "cache"
    cache.mkdir()
    told = engine.home / "told"
    script = f"""
    flock -n {cache}/.lock true && echo "$1 free" >>{told} || echo "$1 held" >>{told}
    exec terraform "$@"
    """
    engine.configure('output "hello" {\n  value = 1\n}')
    engine.run(
        "--terraform", engine.wrapper(script), message=MESSAGE, TF_PLUGIN_CACHE_DIR=str(cache)
    )
    assert told.read_text().splitlines() == ["init held", "plan free", "apply free"]
