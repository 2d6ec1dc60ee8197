"""The file below a journal: its lock, and its replacement as a whole."""

import os
import sys

import pytest

from pie_sync._runs import journal_file
from pie_sync._runs.journal_file import is_regular, open_locked, replace

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="there are no locks on Windows")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"old\n")
    return path


def test_a_file_is_read_and_appended_to(path):
    with open_locked(str(path)) as file:
        assert is_regular(file)
        file.seek(0)
        assert file.read() == b"old\n"
        file.write(b"new\n")
    assert path.read_bytes() == b"old\nnew\n"


def test_a_device_is_only_written_to():
    with open_locked(os.devnull) as one, open_locked(os.devnull) as other:
        assert not is_regular(one)
        assert not one.readable()
        other.write(b"line\n")


@posix_only
def test_the_lock(path):
    with open_locked(str(path)), pytest.raises(BlockingIOError):
        open_locked(str(path))
    open_locked(str(path)).close()


def test_replace(path):
    with replace(open_locked(str(path)), str(path), b"new\n") as file:
        file.write(b"more\n")
    assert path.read_bytes() == b"new\nmore\n"
    assert os.listdir(path.parent) == ["out.jsonl"]


@posix_only
def test_the_new_file_is_locked_as_well(path):
    with replace(open_locked(str(path)), str(path), b"new\n"), pytest.raises(BlockingIOError):
        open_locked(str(path))


@posix_only
def test_a_link_goes_on_pointing_there(path):
    link = path.with_name("link")
    link.symlink_to(path)
    replace(open_locked(str(link)), str(link), b"new\n").close()
    assert link.is_symlink()
    assert path.read_bytes() == b"new\n"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_error_leaves_the_old_file(path, monkeypatch, step):
    def fail(*args):
        raise OSError("disk")

    with open_locked(str(path)) as file:
        monkeypatch.setattr(journal_file.os, step, fail)
        with pytest.raises(OSError, match="disk"):
            replace(file, str(path), b"new\n")
    assert path.read_bytes() == b"old\n"
    assert os.listdir(path.parent) == ["out.jsonl"]


@posix_only
def test_a_file_that_is_replaced_while_it_is_opened(path, monkeypatch):
    """Who has opened the old file just before must not write where nobody finds it."""
    owner = [open_locked(str(path))]
    lock = journal_file._lock

    def lock_late(file):
        monkeypatch.setattr(journal_file, "_lock", lock)
        replace(owner.pop(), str(path), b"new\n").close()
        lock(file)

    monkeypatch.setattr(journal_file, "_lock", lock_late)
    with open_locked(str(path)) as file:
        file.write(b"more\n")
    assert path.read_bytes() == b"new\nmore\n"
