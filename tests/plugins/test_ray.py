"""Replicas on one machine: the same answers as without them, each once, whatever becomes of a replica."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.evalkit.small import echo
from tests.plugins.ray_clusters import started, working
from tests.plugins.ray_runs import PATIENCE, Acting, pids, put_fragile, ran

from evalkit import GenerateRequest, LikelihoodRequest, ModelError, models
from evalkit.errors import EvalkitError, Interrupted, UnknownName
from evalkit.plugins import Plugins
from evalkit.testing import check_backend

ray = pytest.importorskip("ray")
evalkit_ray = pytest.importorskip("evalkit_ray")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cluster for all tests, of four processors on paper, whose workers find the backends of ``ray_fragile``."""
    site = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        put_fragile(site, patch)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = started(lambda: working(cpus=4))
        yield
        made.close()


@pytest.fixture
def replicas(cluster: None, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Open replicas of ``fragile`` or ``chunked``, which leave their process numbers in ``pids``."""
    made = []
    (tmp_path / "pids").mkdir()

    def opened(
        name: str = "fragile", *, workers: int = 2, tokens: int = 262_144, num_cpus: float = 1.0, **options: object
    ) -> Any:
        own = {"workers": workers, "tokens": tokens, "num_cpus": num_cpus, "placement_timeout": PATIENCE}
        backend = evalkit_ray.Ray(f"{name}:{tmp_path / 'pids'}", **own, **{key: str(options[key]) for key in options})
        made.append(backend)
        backend.open()
        return backend

    yield opened
    for backend in made:
        backend.close()


def asked(n: int, *, max_tokens: int = 4) -> Iterator[tuple[int, GenerateRequest]]:
    for position in range(n):
        yield position, GenerateRequest(prompt=f"word {position}", max_tokens=max_tokens)


def texts(answers: list[tuple[int, Any]]) -> dict[int, str]:
    """Position -> text; fails where a position is answered twice or an answer is an error."""
    assert len(dict(answers)) == len(answers)
    assert [generation.error for _, generation in answers if generation.error] == []
    return {position: generation.texts[0].text for position, generation in answers}


# Without a cluster


def test_the_plugin_is_imported_without_ray() -> None:
    program = "import sys, evalkit_ray; sys.exit('ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_options_that_are_not_its_own_go_to_the_wrapped_backend() -> None:
    made = models.make(Plugins(), "ray:dummy:longer", {"workers": "3", "delay": "0.5", "batch_size": "7"})
    inner = made.backend.inner
    assert inner is not None
    assert (inner.backend_name, inner.name, inner.options) == ("dummy", "longer", {"delay": 0.5, "batch_size": 7})
    assert made.bound is inner


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("ray:dummy", {"worker": "2"}, "No option of the backend 'ray' around 'dummy' is named 'worker'. Did you mean"),
        ("ray:dummy", {"dealy": "2"}, "No option of the backend 'ray' around 'dummy' is named 'dealy'. Did you mean"),
        ("ray:dummy", {"delay": "long"}, "Option delay=long: expected a number."),
        ("ray:dummy", {"workers": "0"}, "workers=0 cannot work: give 1 or more, or auto."),
        ("ray:dumy", {}, "No backend is named 'dumy'. Did you mean 'dummy'?"),
        ("ray", {}, "Say what the replicas are to run: ray:hf:ID_OR_PATH, ray:dummy."),
        ("ray:ray:dummy", {}, "Replicas of replicas cannot be run: write ray: once."),
    ],
)
def test_what_is_misspelt_is_said_before_a_cluster_is_sought(model: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(EvalkitError) as raised:
        models.make(Plugins(), model, options)
    assert str(raised.value).startswith(message)


def test_a_misspelt_option_is_an_unknown_name() -> None:
    with pytest.raises(UnknownName, match=r"They have: address, batch_size, .*, workers"):
        models.make(Plugins(), "ray:dummy", {"worker": "2"})


# With one


def test_nobody_on_another_machine_reaches_a_cluster_of_our_own(cluster: None) -> None:
    """What listens on every interface answers at 127.0.0.2, too."""
    (node,) = ray.nodes()
    assert node["NodeManagerAddress"] == "127.0.0.1"
    gcs = int(ray.get_runtime_context().gcs_address.rpartition(":")[2])
    for port in (gcs, node["NodeManagerPort"], node["ObjectManagerPort"]):
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=10)


def test_replicas_keep_the_contract(cluster: None) -> None:
    backend = evalkit_ray.Ray("dummy", workers=2, placement_timeout=PATIENCE)
    backend.open()
    check_backend(backend)
    backend.close()


def test_the_run_is_that_of_the_wrapped_backend(cluster: None, tmp_path: Path) -> None:
    benchmark = echo(n=200)
    alone, _ = ran("dummy", {}, tmp_path / "alone", benchmark)
    options = {"workers": "2", "placement_timeout": str(PATIENCE)}
    spread, positions = ran("ray:dummy", options, tmp_path / "spread", benchmark)
    assert spread == alone
    assert sorted(positions) == list(range(200))
    folders = [sorted(path.relative_to(out) for path in out.glob("*/*")) for out in tmp_path.iterdir()]
    assert folders[0] == folders[1]


@pytest.mark.parametrize("name", ["fragile", "chunked"])
def test_a_killed_replica_is_replaced_and_its_requests_are_answered_once(
    replicas: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    gate = tmp_path / "gate"
    backend = replicas(name, gate=gate)
    answers = []
    for answer in backend.generate(asked(300)):
        answers.append(answer)
        if len(answers) == 60:
            os.kill(pids(tmp_path / "pids")[0], signal.SIGKILL)
            gate.touch()  # only now: until then none can have answered all that it is given
    assert texts(answers) == {position: f"WORD {position}" for position in range(300)}
    assert "1 restarted" in backend.account()


def test_a_run_that_loses_a_replica_has_the_records_of_one_that_does_not(cluster: None, tmp_path: Path) -> None:
    benchmark, model, gate = echo(n=300), f"fragile:{tmp_path / 'pids'}", tmp_path / "gate"
    (tmp_path / "pids").mkdir()
    alone, _ = ran(model, {}, tmp_path / "alone", benchmark)
    assert pids(tmp_path / "pids") == [os.getpid()]

    def kill() -> None:
        os.kill(pids(tmp_path / "pids")[1], signal.SIGKILL)
        gate.touch()

    killed = Acting(after=60, act=kill)
    options = {"workers": "2", "placement_timeout": str(PATIENCE), "gate": str(gate)}
    spread, positions = ran(f"ray:{model}", options, tmp_path / "spread", benchmark, killed)
    assert spread == alone
    assert sorted(positions) == list(range(300))
    assert any("1 restarted" in said for said in killed.said)


def test_a_replica_whose_engine_breaks_is_replaced(replicas: Callable[..., Any], tmp_path: Path) -> None:
    backend = replicas(workers=1, breaking="word 7", times=1)
    assert texts(list(backend.generate(asked(20)))) == {position: f"WORD {position}" for position in range(20)}
    assert len(pids(tmp_path / "pids")) == 2


def test_a_request_that_kills_three_replicas_fails_and_the_others_are_answered(replicas: Callable[..., Any]) -> None:
    backend = replicas("chunked", workers=1, deadly="word 5")
    answers = dict(backend.generate(asked(100)))
    assert answers.pop(5).error == "3 replicas died, one after the other, while they worked on this request."
    assert texts(list(answers.items())) == {position: f"WORD {position}" for position in range(100) if position != 5}


def test_replicas_that_never_answer_end_the_run_so_that_it_can_be_resumed(replicas: Callable[..., Any]) -> None:
    backend = replicas(workers=1, breaking="word 0")
    backend._crew._workers[0].starts = 5  # four times before
    with pytest.raises(Interrupted, match=r"All replicas are lost \(the last one: The engine died: it was told to\)"):
        list(backend.generate(iter([next(asked(1))])))


def test_nobody_waits_for_a_straggler(replicas: Callable[..., Any]) -> None:
    backend = replicas(stall=3600.0, tokens=64)
    assert len(texts(list(backend.generate(asked(40))))) == 40
    assert backend._crew.tally.copies > 0


def test_answers_that_come_too_late_are_no_answers_to_the_next_run(replicas: Callable[..., Any]) -> None:
    backend = replicas(stall=1.0, tokens=64)
    first = texts(list(backend.generate(asked(20))))
    time.sleep(1.5)
    requests = [(position, GenerateRequest(prompt=f"other {position}", max_tokens=4)) for position in range(20)]
    assert texts(list(backend.generate(iter(requests)))) == {n: f"OTHER {n}" for n in range(20)}
    assert first == {position: f"WORD {position}" for position in range(20)}


def test_answers_that_nobody_wants_any_more_may_be_given_up_after_the_replicas(replicas: Callable[..., Any]) -> None:
    """As when Ctrl-C meets whoever keeps an answer: the backend is closed before the iterator is let go."""
    backend = replicas(workers=1, delay=0.05)
    answers = backend.generate(asked(40))
    assert len(texts([next(answers)])) == 1  # which one comes first is the replica's affair
    backend.close()
    answers.close()


def test_requests_are_read_no_further_than_replicas_have_room(replicas: Callable[..., Any]) -> None:
    backend = replicas(tokens=100, delay=0.001)
    read, most, answered = 0, 0, 0

    def counted() -> Iterator[tuple[int, GenerateRequest]]:
        nonlocal read
        for read, request in enumerate(asked(400, max_tokens=8), 1):  # noqa: B007
            yield request

    for _ in backend.generate(counted()):
        most = max(most, read - answered)
        answered += 1
    assert answered == 400
    assert most <= 2 * 100 / 9 + 2, "a request has nine tokens"


def test_a_replica_that_cannot_load_says_why_in_the_backends_words(replicas: Callable[..., Any]) -> None:
    with pytest.raises(ModelError) as raised:
        replicas(workers=1, wrong="model")
    assert str(raised.value) == "The weights are of another model."
    with pytest.raises(ModelError, match=r"A replica could not load fragile:.*: RuntimeError: no kernel image$"):
        replicas(workers=1, wrong="engine")


def test_the_end_of_the_requests_is_met_when_nothing_is_under_way_any_more(replicas: Callable[..., Any]) -> None:
    """Each replica has room for one request, so that the end is met only behind the last answer."""
    backend = replicas(workers=1, tokens=1)
    answers = backend.generate(asked(3))
    for read in range(3):
        assert next(answers)[0] == read
    waited = backend._crew._events
    backend._crew._events = lambda timeout: pytest.fail("It waits for what nobody has.") if timeout else waited(timeout)
    assert list(answers) == []


def test_what_can_never_be_placed_is_said_at_once(cluster: None) -> None:
    backend = evalkit_ray.Ray("dummy", workers=9)
    with pytest.raises(ModelError) as raised:
        backend.open()
    backend.close()
    assert str(raised.value) == (
        "9 replicas of 1 CPU cannot be placed: the cluster has 4 CPUs on 1 node; give workers=4, or add nodes."
    )
    with pytest.raises(ModelError, match=r"1 replica of 1 CPU and 8 GPUs cannot be placed: .* no node can hold one"):
        evalkit_ray.Ray("dummy", workers=1, num_gpus=8).open()


def test_what_others_occupy_is_waited_for_only_so_long(replicas: Callable[..., Any]) -> None:
    replicas(workers=1, num_cpus=4)
    late = evalkit_ray.Ray("dummy", workers=1, placement_timeout=1.0)
    with pytest.raises(ModelError, match="The cluster found no room for a replica of 1 CPU within 1 s"):
        late.open()
    late.close()


def test_no_wait_is_without_a_limit_when_the_time_to_find_room_is_over(
    replicas: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from evalkit_ray.crew import Crew, Event

    waits: list[float] = []
    events = Crew._events

    def noted(self: Crew, timeout: float) -> Iterator[Event]:
        waits.append(timeout)
        return events(self, timeout)

    monkeypatch.setattr(Crew, "_events", noted)
    replicas(workers=1)
    late = evalkit_ray.Ray("dummy", workers=4, placement_timeout=0.0)
    with pytest.raises(ModelError, match="The cluster found no room for a replica of 1 CPU within 0 s"):
        late.open()
    late.close()
    assert waits
    assert all(0 < seconds <= PATIENCE for seconds in waits)


def test_remarks_and_accounts_of_replicas_come_through(
    replicas: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evalkit_ray.crew.ACCOUNTS", 120.0)
    backend = replicas()
    list(backend.generate(asked(10)))
    assert backend.remarks() == ("It answers in capitals.",)
    assert backend.account().startswith("ray: 2 replicas gave 10 answers; 0 restarted, 0 requests asked again")
    assert backend.account().endswith("; fragile: all well; fragile: all well.")


@pytest.mark.torch
def test_two_replicas_of_a_checkpoint_answer_as_it_does_alone(cluster: None, tiny: Callable[[str], Path]) -> None:
    folder = str(tiny("llama"))
    workers = {"workers": "2", "placement_timeout": str(PATIENCE)}
    alone = models.make(Plugins(), f"hf:{folder}", {"dtype": "float32"}).backend
    spread = models.make(Plugins(), f"ray:hf:{folder}", {"dtype": "float32", **workers}).backend
    for backend in (alone, spread):
        backend.open()
    generated = [dict(backend.generate(asked(60, max_tokens=8))) for backend in (alone, spread)]
    assert generated[0] == generated[1]
    questions = [
        LikelihoodRequest(prompt=f"Question {n}? Answer:", continuations=(" A", " B", " Paris")) for n in range(40)
    ]
    likelihoods = [dict(backend.likelihood(enumerate(questions))) for backend in (alone, spread)]
    for position in range(40):
        expected = pytest.approx(likelihoods[0][position].logprobs, abs=1e-4)
        assert likelihoods[1][position].logprobs == expected
    for backend in (alone, spread):
        backend.close()
