"""What is written survives kills, other processes and full disks.

What gs4d did not make is never touched.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gs4d.errors import UserError, interruptible, os_sentence, stop_signals
from gs4d.io import files
from gs4d.io.checkpoint import read_checkpoint, write_checkpoint
from gs4d.io.files import atomic_path, clear_stale, read_json, write_json
from gs4d.io.locks import one_writer
from gs4d.io.owned import LIST, adopt, atomic_folder, claim, made_in, remove_made, require_ours
from gs4d.run_folder import EARLIER, LOCK, RESULTS, clear_run, run_folder

ROOT = Path(__file__).parent.parent


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that runs ``code``, and has said its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


WRITING = """
import sys
from pathlib import Path
from gs4d.io.files import atomic_path
with atomic_path(Path(sys.argv[1])) as part:
    part.write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_cleared_and_what_a_live_one_writes_is_not(tmp_path: Path):
    process = child(WRITING, str(tmp_path / "a.txt"))
    clear_stale(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    process.kill()
    process.communicate()
    assert len(list(tmp_path.iterdir())) == 1
    write_json(tmp_path / "b.json", {})  # the first that is written here clears
    assert [p.name for p in tmp_path.iterdir()] == ["b.json"]


def test_strangers_hidden_folders_are_no_leftovers(tmp_path: Path):
    (tmp_path / ".notes.abcdefgh.part").mkdir()
    (tmp_path / ".notes.abcdefgh.part" / "mine.txt").write_text("mine")
    (tmp_path / ".git").mkdir()
    clear_stale(tmp_path)
    assert (tmp_path / ".notes.abcdefgh.part" / "mine.txt").read_text() == "mine"
    assert (tmp_path / ".git").is_dir()


def test_a_folder_that_was_aside_when_the_process_was_killed_is_put_back(tmp_path: Path):
    holder = tmp_path / ".ply.abcdefgh.part"
    (holder / files.ASIDE / "ply").mkdir(parents=True)
    (holder / files.ASIDE / "ply" / "0000.ply").write_text("old")
    (holder / files.LOCK).touch()
    clear_stale(tmp_path)
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == [
        "ply",
        "ply/0000.ply",
    ]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "ply").mkdir()
    (tmp_path / "ply" / "old").touch()
    plain = os.replace

    def fails(source: Path, target: Path) -> None:
        if Path(target) == tmp_path / "ply" and files.ASIDE not in Path(source).parts:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        plain(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(UserError, match="cannot write"), atomic_path(tmp_path / "ply") as part:
        part.mkdir()
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["ply", "ply/old"]


def test_files_are_on_the_disk_before_their_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(
        os, "replace", lambda a, b: (done.append(f"rename {Path(b).name}"), replace(a, b))
    )
    with atomic_path(tmp_path / "clip") as part:
        part.mkdir()
        (part / "0.png").write_text("picture")
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    assert done == ["0.png", "clip", "rename clip", tmp_path.name]
    monkeypatch.setattr(
        os,
        "fsync",
        lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
    )
    with pytest.raises(UserError, match="No space left"):
        write_json(tmp_path / "a.json", {})
    assert [p.name for p in tmp_path.iterdir()] == ["clip"]


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path):
    (tmp_path / "rig.json").write_bytes(b"\xef\xbb\xbf" + '{"näme": 1}'.encode())
    assert read_json(tmp_path / "rig.json", "rig file") == {"näme": 1}


LOCKING = """
import sys
from pathlib import Path
from gs4d.io.locks import one_writer
with one_writer(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_keeps_others_out_and_ends_with_its_process(tmp_path: Path):
    process = child(LOCKING, str(tmp_path / LOCK))
    with (
        pytest.raises(UserError, match=rf"^toy is being written \(process {process.pid} on "),
        one_writer(tmp_path / LOCK, "toy is being written"),
    ):
        pass
    process.kill()
    process.communicate()
    assert (tmp_path / LOCK).exists()  # a name alone keeps nobody out
    with (
        one_writer(tmp_path / LOCK, "busy"),
        pytest.raises(UserError, match="busy"),
        one_writer(tmp_path / LOCK, "busy"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_who_waits_gets_the_lock_when_its_holder_ends(tmp_path: Path):
    order: list[str] = []

    def wait() -> None:
        with one_writer(tmp_path / LOCK, None):
            order.append("second")

    with one_writer(tmp_path / LOCK, None):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_locks_is_said_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def none(*_: object) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("gs4d.io.locks._lock", none)
    with one_writer(tmp_path / LOCK, "busy"):
        write_json(tmp_path / "a.json", {})
    assert "without locks" in capsys.readouterr().err
    assert read_json(tmp_path / "a.json", "file") == {}


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def left(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {LIST}


def results(folder: Path, *names: str) -> list[Path]:
    return [folder / name for name in (*RESULTS, *names)]


MINE = (
    "holiday.mp4",
    "report.docx",
    "export/tax.xlsx",
    "checkpoint-best.safetensors",
    "video/cat.mp4",
)
RUN = (
    "config.json",
    "input_view.mp4",
    "turntable.mp4",
    "report.json",
    "report.html",
    "ply/0000.ply",
    "ply/0001.ply",
    "export/toy.glb",
    "export/spz/0000.spz",
    "export/spz/sequence.json",
    "video/input_view.mp4",
    "video/train/input/0.png",
    "eval_renders/toy/eval_0/0.png",
    "checkpoint-0000012-0a1b2c3d.safetensors",
)


def test_a_run_of_before_there_were_lists_is_cleared_of_what_runs_made(tmp_path: Path):
    folder = tmp_path / "toy"
    fill(folder, *MINE, *RUN)
    write_json(folder / "config.json", {"fit": {}, "data_dir": "data", "output_dir": "output"})
    with run_folder(folder):
        clear_run(folder, results(folder, "export/toy.glb"))
    assert left(folder) == set(MINE)


def test_a_strangers_file_where_a_result_belongs_is_named_and_nothing_is_removed(tmp_path: Path):
    folder = tmp_path / "toy"
    fill(folder, *RUN, "ply/scan.ply")
    write_json(folder / "config.json", {"fit": {}, "data_dir": "data", "output_dir": "output"})
    before = left(folder)
    with (
        pytest.raises(UserError, match=r"toy holds ply/scan\.ply, which gs4d did not make"),
        run_folder(folder),
    ):
        clear_run(folder, results(folder))
    assert left(folder) == before
    (folder / "ply" / "scan.ply").rename(tmp_path / "scan.ply")
    fill(folder, "ply/0002.ply")  # the list is there by now, and does not name it
    with pytest.raises(UserError, match=r"ply/0002\.ply"), run_folder(folder):
        clear_run(folder, results(folder))


def test_a_folder_that_is_no_run_is_refused_in_one_sentence(tmp_path: Path):
    fill(tmp_path / "toy", "notes.txt", "config.json", "ply/scan.ply")
    with (
        pytest.raises(UserError, match=r"toy holds .* and no run of gs4d; choose another name"),
        run_folder(tmp_path / "toy"),
    ):
        pass
    assert left(tmp_path / "toy") == {"notes.txt", "config.json", "ply/scan.ply"}
    with run_folder(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()
    fill(tmp_path / "cut", "views/cut_sync/0_0_0_rgba.png", LOCK)  # a kill while a prior drew
    with run_folder(tmp_path / "cut"):
        clear_run(tmp_path / "cut", results(tmp_path / "cut"))


def test_what_is_added_to_a_listed_run_stays(tmp_path: Path):
    folder = tmp_path / "toy"
    for _ in range(2):
        with run_folder(folder):
            clear_run(folder, results(folder, "export/toy.glb"))
            fill(folder, "turntable.mp4", "export/toy.glb")
            with atomic_folder(folder / "ply") as part:
                fill(part, "0000.ply")
        fill(folder, *MINE)
    assert left(folder) == {*MINE, "turntable.mp4", "export/toy.glb", "ply/0000.ply"}
    assert {"ply/0000.ply", "export/toy.glb", "turntable.mp4"} <= made_in(folder)


def test_folders_are_replaced_only_while_all_in_them_is_ours(tmp_path: Path):
    for name in ("a.png", "b.png"):
        with atomic_folder(tmp_path / "train") as part:
            fill(part, f"input/{name}")
    assert left(tmp_path) == {"train/input/b.png"}
    fill(tmp_path, "train/input/a.png")
    with pytest.raises(UserError, match=r"train/input/a\.png"), atomic_folder(tmp_path / "train"):
        pass
    fill(tmp_path / "other", "film.mp4")
    with pytest.raises(UserError, match=r"film\.mp4, which gs4d did not make and will not replace"):
        claim(tmp_path / "other" / "film.mp4", tmp_path / "other" / "b.mp4")
    assert not (tmp_path / "other" / LIST).exists()


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "C:\\x", "", 3])
def test_a_list_that_names_files_elsewhere_is_refused(tmp_path: Path, name: object):
    fill(tmp_path, "x", "run/y")
    (tmp_path / "run" / LIST).write_text(json.dumps({"files": [name]}))
    with pytest.raises(UserError, match="is no list of what gs4d made"):
        remove_made(tmp_path / "run")
    assert left(tmp_path) - {f"run/{LIST}"} == {"x", "run/y"}


def test_a_link_to_a_folder_is_not_followed_when_it_is_removed(tmp_path: Path):
    fill(tmp_path / "mine", "0000.ply")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ply").symlink_to(tmp_path / "mine")
    adopt(tmp_path / "run", EARLIER)
    with pytest.raises(UserError, match=r"ply/0000\.ply"):
        require_ours(tmp_path / "run" / "ply")
    remove_made(tmp_path / "run")
    assert left(tmp_path / "mine") == {"0000.ply"}


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import torch

    from gs4d.io import checkpoint

    fill(tmp_path, "checkpoint-best.safetensors")
    write_checkpoint(tmp_path, {"x": torch.zeros(3)}, {"step": 1})
    plain, calls = checkpoint.read_record, []

    def slow(folder: Path) -> dict[str, object]:
        record = plain(folder)
        if not calls:
            calls.append(1)
            write_checkpoint(folder, {"x": torch.ones(3)}, {"step": 2})
        return record

    monkeypatch.setattr(checkpoint, "read_record", slow)
    tensors, record = read_checkpoint(tmp_path)
    assert (record["step"], tensors["x"].sum()) == (2, 3)
    assert (tmp_path / "checkpoint-best.safetensors").exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP"])
def test_every_signal_to_stop_is_a_flag_first(name: str):
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with interruptible() as interrupted:
            assert not interrupted()
            os.kill(os.getpid(), number)
            assert interrupted()
            if name == "SIGHUP":  # the system and the shell both say it
                os.kill(os.getpid(), number)
            else:
                with pytest.raises(KeyboardInterrupt):
                    os.kill(os.getpid(), number)
        if name == "SIGHUP":
            os.kill(os.getpid(), number)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
        assert signal.SIGHUP not in stop_signals()
    finally:
        signal.signal(number, before)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


GUARDED = """
import os, sys
from gs4d.cli import guarded
def command(arguments):
    print("x" * 100000, flush=True)
    sys.stderr.write("y" * 100000)
    {body}
    open(sys.argv[1], "w").write("done")
sys.exit(guarded(command, []))
"""


@pytest.mark.parametrize(
    "shell",
    ["| true", "2>&1 | head -c 1 >/dev/null", ">&- 2>&-", "<&- >&- 2>&-", "> /dev/null 2>&-"],
)
def test_output_that_nobody_reads_ends_nothing(tmp_path: Path, shell: str):
    code = GUARDED.format(body="os.system('true')")
    line = f'"$0" -c "$1" "$2" {shell}; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", line, sys.executable, code, str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, (tmp_path / "out").read_text()) == (0, "done")
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("os.mkdir('/proc/x/y')", "error: /proc/x/y: it does not exist; check the path"),
        (
            "raise OSError(28, 'No space left on device', '/mnt/a')",
            "error: /mnt/a: the disk is full; free some space",
        ),
        (
            "import tempfile; tempfile.tempdir = None; tempfile._candidate_tempdir_list = lambda: "
            "[]; tempfile.mkdtemp()",
            "TMPDIR",
        ),
    ],
)
def test_what_the_system_refuses_is_one_sentence(tmp_path: Path, body: str, sentence: str):
    run = [sys.executable, "-c", GUARDED.format(body=body), str(tmp_path / "out")]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert sentence in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_sentences_about_the_system_name_what_to_do():
    for code in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EMFILE,
        errno.EPIPE,
        errno.ENOENT,
    ):
        said = os_sentence(OSError(code, os.strerror(code), "/a/b"))
        assert said.startswith("/a/b: ")
        assert "; " in said
    assert os_sentence(OSError("odd")) == "odd; check files, disks and network"
