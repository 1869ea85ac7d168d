"""What results say of their origin, on real git repositories, and how finished runs are brought in."""

import datetime
import json
import os
import re
import subprocess

import pytest

from benchmarks import networks
from benchmarks import provenance as command
from mmx_tf.export import provenance
from mmx_tf.metamix.selection import BitSelection, LayerSelection
from mmx_tf.workdir import lock


def git(root, *arguments):
    identity = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    words = ["git", "-C", root, *identity, *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A repository with one commit: a.py, results/old.json, and *.tmp ignored."""
    root = tmp_path / "checkout"
    (root / "results").mkdir(parents=True)
    for name, text in {"a.py": "a = 1\n", "results/old.json": "{}\n", ".gitignore": "*.tmp\n"}.items():
        (root / name).write_text(text)
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message=first")
    return root


def test_a_clean_checkout_is_its_commit(checkout):
    assert provenance.commit(checkout) == git(checkout, "rev-parse", "HEAD")
    assert re.fullmatch("[0-9a-f]{40}", provenance.commit(checkout))


@pytest.mark.parametrize(
    "name", ["results/old.json", "results/new.json", "README.md", "layers/x.md", "a.tmp"]
)
def test_results_notes_and_ignored_files_are_no_changes(checkout, name):
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).write_text("[]\n")
    assert provenance.commit(checkout) == git(checkout, "rev-parse", "HEAD")


@pytest.mark.parametrize("name", ["a.py", "b.py", "layers/new.py"])
def test_changed_and_new_code_is_told(checkout, name):
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).write_text("a = 2\n")
    assert provenance.commit(checkout) == git(checkout, "rev-parse", "HEAD") + "+changes"


def test_what_is_committed_while_a_process_runs_is_not_its_code(checkout):
    begun_with = provenance.commit(checkout)
    git(checkout, "commit", "--quiet", "--allow-empty", "--message=second")
    assert git(checkout, "rev-parse", "HEAD") != begun_with
    assert provenance.provenance(root=checkout)["commit"] == begun_with


def test_a_stamp_names_the_commit_that_was_asked_for_when_the_command_began(monkeypatch):
    began = provenance.commit()
    monkeypatch.setattr(provenance, "git", lambda root, *arguments: f"{root}\n{'0' * 40}")
    assert provenance.provenance()["commit"] == began


def test_no_commit_is_named_where_there_is_none(checkout, tmp_path):
    inside, empty = checkout / "results", tmp_path / "empty"
    empty.mkdir()
    # An installed copy inside a checkout of something else has not that one's commit.
    assert [provenance.commit(root) for root in (inside, tmp_path, empty)] == [None, None, None]
    git(empty, "init", "--quiet")
    assert provenance.provenance(root=empty)["commit"] is None


def test_a_hooks_repository_is_not_taken(checkout, tmp_path, monkeypatch):
    want = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert provenance.commit(checkout) == want


def test_a_stamp_has_a_date_in_utc_and_the_machine(checkout):
    begin = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    stamp = provenance.provenance(root=checkout)
    assert begin <= datetime.datetime.fromisoformat(stamp["date"]) <= datetime.datetime.now(datetime.UTC)
    assert stamp["date"].endswith("+00:00")
    assert stamp["machine"]["cpus"] == os.cpu_count()
    # What Linux says of all memory, in units of 1024 bytes.
    total = re.search(r"MemTotal: +(\d+) kB", open("/proc/meminfo").read())
    assert stamp["machine"]["memory_bytes"] == 1024 * int(total[1])
    assert json.loads(json.dumps(stamp)) == stamp


def test_a_moment_is_told_in_utc():
    zone = datetime.timezone(datetime.timedelta(hours=2))
    assert provenance.iso(datetime.datetime(2026, 1, 1, 1, 2, 3, 4, zone)) == "2025-12-31T23:02:03+00:00"


def test_cpu_facts():
    cpuinfo = (
        "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu avx2 avx512f amx_tile\n\nmodel name\t: Another\n"
    )
    facts = {"cpu_model": "A CPU", "avx2": True, "avx512": True, "amx": True}
    assert provenance.cpu_facts(cpuinfo) == facts
    without = provenance.cpu_facts("model name\t: A CPU\nflags\t: fpu avx\n")
    assert without == {"cpu_model": "A CPU", "avx2": False, "avx512": False, "amx": False}
    unknown = provenance.cpu_facts("")
    assert (unknown["avx2"], unknown["avx512"], unknown["amx"]) == (None, None, None)


def test_a_file_that_is_continued_keeps_its_earlier_stamps(checkout):
    first = provenance.provenance(root=checkout)
    second = provenance.provenance(root=checkout, earlier=first)
    third = provenance.provenance(root=checkout, earlier=second)
    assert "earlier" not in first and second["earlier"] == [first]
    assert third["earlier"] == [first, {k: v for k, v in second.items() if k != "earlier"}]


@pytest.mark.slow
def test_a_benchmark_that_goes_on_tells_both_times(tmp_path, capsys):
    """Two small networks, so that nothing takes long."""
    out = tmp_path / "networks.json"
    assert networks.main(["--only=two heads", f"--json={out}"]) == 0
    first = json.loads(out.read_text())
    assert networks.main(["--only=shared layer", f"--json={out}"]) == 0
    both = json.loads(out.read_text())
    assert set(both) == {"provenance", "two heads", "shared layer"}
    assert both["two heads"] == first["two heads"]
    assert both["provenance"]["earlier"] == [first["provenance"]]
    assert re.search(r"\| two heads \| 4 \| [\d,]+ \| 0 \| 1 \|", capsys.readouterr().out)


VALUE = 0.1 + 0.2
LAYER = LayerSelection("stem", "conv", 1000, 4, 4, False, 64, True)


@pytest.fixture
def run(checkout, tmp_path):
    """A finished workdir, as far as it is brought in, that was begun and ended now, after the commit."""
    root = tmp_path / "run"
    root.mkdir()
    (root / "run.flags").write_text("--dataset=digits\n")
    BitSelection((8, 4), (LAYER,), 16000).save(root / "bit_selection.json")
    (root / "parity.json").write_text('{"schema": 1, "folded_top1": 0.30000000000000004}\n')
    metrics = {"bops": 16000, "target_bops": 16000, "file_bytes": 5000, "xnnpack_partitions": 1}
    metrics |= dict.fromkeys(("fixed_top1", "folded_top1", "tflite_top1", "top1_agreement"), VALUE)
    metrics |= {"code_disagreement": 0.0, "tensor_codes_compared": 5, "tensor_codes_differing": 0}
    metrics |= {"eval_images": 360, "xnnpack_left_outside": [], "float_top1": 0.5}
    (root / "metrics.json").write_text(json.dumps(metrics))
    return root


def test_a_finished_run_is_brought_in_with_its_stamp(run, checkout, tmp_path):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    ended = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    os.utime(run / "metrics.json", (ended.timestamp(), ended.timestamp()))
    out = tmp_path / "results" / "it"
    written = command.bring_in(run, out, command.stamp_of(run, root=checkout))
    assert {path.name for path in written} == {path.name for path in out.iterdir()}
    for name in command.COPIED:
        document = json.loads((out / name).read_text())
        stamp = document.pop("provenance")
        assert document == json.loads(before[name])
        assert stamp["commit"] == git(checkout, "rev-parse", "HEAD")
        assert stamp["date"] == "2030-01-02T03:04:05+00:00"
        assert stamp["machine"] == provenance.machine()
        assert stamp["recorded"] == "when the finished run was brought in"
    assert BitSelection.load(out / "bit_selection.json") == BitSelection.load(run / "bit_selection.json")
    assert (out / "bits.png").read_bytes().startswith(b"\x89PNG")
    assert before == {path.name: path.read_bytes() for path in run.iterdir()}


def test_a_commit_that_is_newer_than_the_run_has_to_be_named(run, checkout):
    made = datetime.datetime.fromisoformat(git(checkout, "show", "-s", "--format=%cI"))
    os.utime(run / "run.flags", (made.timestamp() - 1, made.timestamp() - 1))
    with pytest.raises(command.OriginError, match=r"was begun on .*, before commit .* --commit=NAME"):
        command.stamp_of(run, root=checkout)
    name = git(checkout, "rev-parse", "HEAD")
    assert command.stamp_of(run, "HEAD", root=checkout)["commit"] == name
    assert command.stamp_of(run, name[:8], root=checkout)["commit"] == name
    for wrong in ("nothing", "HEAD:a.py", "--all"):
        with pytest.raises(command.OriginError, match=f"--commit={wrong} is no commit of"):
            command.stamp_of(run, wrong, root=checkout)


def test_a_folder_that_is_no_checkout_names_no_commit(run, tmp_path):
    with pytest.raises(command.OriginError, match="is no git checkout with a commit"):
        command.stamp_of(run, root=tmp_path)


def refused(capsys, *words) -> str:
    with pytest.raises(SystemExit) as stopped:
        command.main(list(words))
    assert stopped.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metrics.json", None, "is no finished workdir: it has no metrics.json"),
        ("metrics.json", "{", "metrics.json cannot be read"),
        ("parity.json", None, "parity.json cannot be read"),
        ("parity.json", "[]", "parity.json cannot be read: it holds no object"),
        ("bit_selection.json", "{}", "bit_selection.json is no bit selection"),
    ],
)
def test_a_run_that_is_not_whole_is_refused(run, tmp_path, capsys, name, content, said):
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content)
    assert said in refused(capsys, f"--workdir={run}", f"--out={tmp_path / 'out'}", "--commit=HEAD")
    assert not (tmp_path / "out").exists()


def test_a_run_with_several_targets_is_brought_in_target_by_target(run, tmp_path, capsys):
    run.rename(tmp_path / "target_4G")
    words = (f"--workdir={tmp_path}", f"--out={tmp_path / 'out'}")
    assert "has several targets: give one of target_4G in it" in refused(capsys, *words)


def test_a_run_that_goes_on_is_refused(run, tmp_path, capsys):
    with lock.held(run):
        said = refused(capsys, f"--workdir={run}", f"--out={tmp_path / 'out'}", "--commit=HEAD")
    assert str(run) in said and not (tmp_path / "out").exists()


def test_a_workdir_is_not_overwritten(run, capsys):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert "is the workdir itself" in refused(capsys, f"--workdir={run}", f"--out={run}", "--commit=HEAD")
    assert before == {path.name: path.read_bytes() for path in run.iterdir()}
