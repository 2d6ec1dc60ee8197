import os
import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pie_sync import Blob


def test_is_bytes_with_a_name():
    blob = Blob(b"data", "a.bin")
    assert blob == b"data"
    assert isinstance(blob, bytes)
    assert blob.name == "a.bin"
    assert blob[:2] == b"da"
    assert Blob(bytearray(b"x")).name is None


def test_pickles_with_its_name():
    blob = pickle.loads(pickle.dumps(Blob(b"data", "a.bin")))
    assert (blob, blob.name) == (b"data", "a.bin")


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("picture.png", "picture.png"),
        ("über.txt", "über.txt"),
        (None, "blob.bin"),
        ("", "blob.bin"),
        ("..", "blob.bin"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/etc/passwd", "passwd"),
        ("C:autoexec.bat", "Cautoexec.bat"),
        ("a\0b\nc", "abc"),
        (".bashrc", "bashrc"),
        ("folder/", "blob.bin"),
        ("con.txt", "_con.txt"),
        ("x" * 300 + ".png", "x" * 197 + ".png"),
    ],
)
def test_save(tmp_path, name, saved):
    path = Blob(b"data", name).save(tmp_path / "new")
    assert path == tmp_path / "new" / saved
    assert path.read_bytes() == b"data"


def test_save_does_not_overwrite_or_follow_links(tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.png").symlink_to(outside)
    (folder / "a-1.png").symlink_to(tmp_path / "dangling")
    assert Blob(b"data", "a.png").save(folder).name == "a-2.png"
    assert outside.read_bytes() == b"precious"
    assert not (tmp_path / "dangling").exists()


def test_save_from_many_threads(tmp_path):
    threads = [threading.Thread(target=Blob(b"%d" % n, "same").save, args=(tmp_path,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(path.read_bytes()) for path in tmp_path.iterdir()) == list(range(20))


@given(name=st.text())
def test_nothing_is_written_outside_the_directory(name, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parent") / "folder"
    path = Blob(b"data", name).save(folder)
    assert path.parent == folder
    assert os.listdir(folder) == [path.name]
    assert os.listdir(folder.parent) == ["folder"]
