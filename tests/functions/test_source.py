"""Finding a function's source."""

from __future__ import annotations

import functools
import importlib.util
import linecache

import pytest

from pie_sync._functions.source import definition_of, definitions_in, split_script_path


def decorate(function):
    return function


@decorate
@functools.partial(lambda option, function: function, 1)
def example(a, b=2):  # a comment
    """Say "hello"."""
    return a + b


async def coroutine(a, *, b=2):
    return a + b


def load(path, text):
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(source, name, *args):
    namespace = {}
    exec(source, namespace)
    return namespace[name](*args)


def test_the_definition_without_its_decorators():
    definition = definition_of(example)
    assert definition.source.splitlines()[0] == "def example(a, b=2):  # a comment"
    assert len(definition.node.decorator_list) == 2
    assert run(definition.source, "example", 1) == 3
    assert definition_of(coroutine).source.startswith("async def coroutine(a, *, b=2):\n")


def test_an_indented_definition_keeps_its_strings():
    def nested():
        return """first
    indented
  less
none
\f page"""

    assert run(definition_of(nested).source, "nested") == nested()


def test_one_line():
    def short(): return 5  # fmt: skip

    assert run(definition_of(short).source, "short") == 5


def test_a_notebook_cell():
    text = "import os\n\ndef cell(a):\n    return a * 2\n\nprint\n"
    name = "<ipython-input-3-abc>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)  # as IPython does
    namespace = {}
    exec(compile(text, name, "exec"), namespace)
    assert run(definition_of(namespace["cell"]).source, "cell", 4) == 8


@pytest.mark.parametrize("command", [None, "import sys\n\n\nclass Other:\n    pass\n"])
def test_what_has_no_source(monkeypatch, command):
    """Since Python 3.13 the name that exec() gives what it runs also stands for the text of ``python -c``."""
    if command is not None:
        lines = command.splitlines(keepends=True)
        monkeypatch.setitem(linecache.cache, "<string>", (len(command), None, lines, "<string>"))
    namespace = {}
    exec("def executed(): pass", namespace)
    with pytest.raises(
        ValueError, match=r"the source of executed\(\) can't be read.*in a file or in a notebook cell"
    ):
        definition_of(namespace["executed"])
    with pytest.raises(ValueError, match="a lambda has no name"):
        definition_of(lambda: 5)


@pytest.mark.parametrize("thing", [print, len, int, "".join, functools.partial(print), [].append, 5])
def test_what_is_no_python_function(thing):
    with pytest.raises(TypeError, match="must be a function that is written in Python"):
        definition_of(thing)


def test_a_method():
    class Class:
        def method(self):
            pass

    with pytest.raises(TypeError, match="not a method"):
        definition_of(Class().method)


@pytest.mark.parametrize(
    "text",
    [
        "x = 1\n\ndef changed(a):\n    return 1\n",
        "def other(a):\n    return 1\n",
        "def changed(b):\n    return 1\n",
        "",
    ],
)
def test_a_file_that_has_changed_since(tmp_path, text):
    path = tmp_path / "module_that_changes.py"
    module = load(path, "def changed(a):\n    return 1\n")
    path.write_text(text)
    linecache.checkcache(str(path))
    with pytest.raises(ValueError, match=r"has changed since changed\(\) was defined|can't be read"):
        definition_of(module.changed)


def test_the_functions_of_a_file(tmp_path):
    path = tmp_path / "script.py"
    path.write_bytes(
        b"\xef\xbb\xbfimport nothing_of_that_name\r\n@x\r\ndef one(a):\r\n    return '''\r\n  '''\r\n"
        b"if True:\r\n    def hidden(): pass\r\nasync def two(): return 'h\xc3\xa4'\r\n"
    )
    found = definitions_in(path)
    assert list(found) == ["one", "two"]
    assert found["one"].source == "def one(a):\n    return '''\n  '''\n"
    assert found["two"].source == "async def two(): return 'hä'\n"


def test_the_names_of_a_file(tmp_path):
    path = tmp_path / "script.py"
    path.write_text("import os\nfrom math import pow\n__all__ = ['f']\nlimit = max(1, 2)\ndef f(): return min\n")
    assert definitions_in(path)["f"].outside == {"os", "pow", "limit", "f"}


def sorted(items):  # noqa: A001 - as some module may have one
    return items


def uses_sorted():
    return sorted([2, 1])


def test_the_names_of_a_module(monkeypatch):
    outside = definition_of(uses_sorted).outside
    assert {"sorted", "uses_sorted", "pytest"} <= outside
    assert not outside & {"__name__", "__file__", "max"}


def test_what_ipython_wraps(monkeypatch):
    def open_of_ipython(file):
        raise NotImplementedError

    monkeypatch.setattr(open_of_ipython, "__module__", "IPython.core.interactiveshell")
    monkeypatch.setitem(globals(), "open", open_of_ipython)
    assert "open" not in definition_of(uses_sorted).outside


@pytest.mark.parametrize("content", [b"def f(:\n", b"\xff\xfed\0e\0", b"x = \xe4", b"x = '\0'"])
def test_a_file_that_is_no_python(tmp_path, content):
    path = tmp_path / "script.py"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"script\.py"):
        definitions_in(path)


@pytest.mark.parametrize(
    ("program", "parts"),
    [
        ("script.py", ("script.py", None)),
        ("a b/script.py:complete", ("a b/script.py", "complete")),
        (r"C:\x\script.py:complete", (r"C:\x\script.py", "complete")),
        ("script.py:", ("script.py", "")),
        ("script.pyc", None),
        ("script", None),
        ("std/text.py/x", None),
        ("name@1.0.0", None),
    ],
)
def test_script_paths(program, parts):
    assert split_script_path(program) == parts
