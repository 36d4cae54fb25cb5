"""The sandbox works from an environment in a home that nobody else may enter: for its owner, and for root.

The copy of an environment is made behind a fence, where this interpreter is in everybody's reach.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from tests.plugins.hostile import fence

pytest.importorskip("evalkit_replay")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

#: What is copied into the home; what these need besides is taken from where it is.
COPIED = ("evalkit", "evalkit-codex-eval", "evalkit-replay", "evalkit-sandbox")
#: The user whose home it is.
OWNER = fence.USER
RECORDED = {
    "Sample/0": ["    return max(low, min(value, high))\n", "    return value\n"],
    "Sample/1": ["    import os\n    return [*os.environ]\n", "    raise ValueError\n"],
    "Sample/2": ["    return open('/etc/passwd').read()\n", "    return (\n"],
}
REASONS = [["passed", "wrong-answer"], ["wrong-answer", "exception ValueError"], ["exception", "syntax-error"]]


def made(home: Path, *, copies: bool) -> Path:
    """A virtual environment in a home of mode 0700; gives its interpreter."""
    home.mkdir(mode=0o700)
    environment = home / "environment"
    venv.EnvBuilder(symlinks=not copies, with_pip=False).create(environment)
    (site,) = environment.glob("lib/python*/site-packages")
    for name in COPIED:
        _copy(distribution(name), site)
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "others.pth").write_text("".join(f"{path}\n" for path in others))
    (home / "outputs.jsonl").write_text(
        "".join(f"{json.dumps({'id': name, 'texts': texts})}\n" for name, texts in RECORDED.items())
    )
    for path in (home, *home.rglob("*")):
        os.chown(path, OWNER, OWNER, follow_symlinks=False)
    return environment / "bin" / "python"


def _copy(about: Distribution, site: Path) -> None:
    """A distribution's metadata and its modules, as pip would have put them there."""
    files = [file for file in about.files or () if file.parts[0].endswith(".dist-info")]
    for file in files:
        if (source := Path(str(about.locate_file(file)))).is_file() and "direct_url" not in file.name:
            (site / file).parent.mkdir(exist_ok=True)
            shutil.copy(source, site / file)
    module = about.name.replace("-", "_")
    spec = __import__(module)
    source = Path(str(spec.__file__))
    if source.name == "__init__.py":
        shutil.copytree(source.parent, site / module, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, site)


def _main(kind: str, user: str) -> None:
    """What runs behind the fence: the environment is made, and one run in it as a user."""
    try:
        fence.enter()
    except OSError as error:
        sys.stdout.write(json.dumps({"refused": str(error)}))
        return
    home = Path("/home/owner")
    home.parent.mkdir(exist_ok=True)
    python = made(home, copies=kind == "copies")
    if user == "owner":
        fence.become_ordinary()
    run = ["run", "-m", f"replay:{home}/outputs.jsonl", "-b", "codex-eval:pass@1", "-B", "n=2", "--data", "sample"]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(home if user == "owner" else "/root"), "COLUMNS": "300"}
    where = subprocess.run(
        [str(python), "-c", "import evalkit_sandbox, evalkit; print(evalkit_sandbox.__file__, evalkit.__file__)"],
        cwd="/",
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    ran = subprocess.run(
        [str(python), "-m", "evalkit", *run, "--out", "/tmp/runs", "--json"],
        cwd=home,
        env=env,
        check=False,
        capture_output=True,
        text=True,
    )
    found = {"code": ran.returncode, "told": ran.stderr, "where": where.stdout, "mode": home.stat().st_mode & 0o777}
    if not ran.returncode:
        (summary,) = json.loads(ran.stdout)
        records = Path(summary["run"], "records.jsonl").read_text().splitlines()
        found["verified"] = summary["verified"]
        found["reasons"] = [json.loads(line)["verdict"]["reasons"] for line in records]
    sys.stdout.write(json.dumps(found))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's home")
@pytest.mark.parametrize("kind", ["links", "copies"])
@pytest.mark.parametrize("user", ["owner", "root"])
def test_it_works_from_a_closed_home(user: str, kind: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-B", "-m", "tests.plugins.test_sandbox_users", kind, user],
        cwd=fence.ROOT,
        env={**os.environ, "PYTHONPATH": str(fence.ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    if "refused" in found:
        pytest.skip(f"this machine refuses namespaces to make a home in: {found['refused']}")
    assert found["code"] == 0, found["told"]
    assert found["mode"] == 0o700
    assert [Path(path).is_relative_to("/home/owner/environment") for path in found["where"].split()] == [True, True]
    kinds = [[reason.partition(" FileNotFound")[0] for reason in reasons] for reasons in found["reasons"]]
    assert [[reason.replace(" PermissionError", "") for reason in reasons] for reasons in kinds] == REASONS
    assert found["verified"]["sandbox"] in ("A", "B")
    assert ("uid" in found["verified"]["layers"]) is (user == "root")
    assert found["verified"]["missing"] == {} or found["verified"]["sandbox"] == "B"


if __name__ == "__main__":
    _main(*sys.argv[1:])
