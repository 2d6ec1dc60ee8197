"""What a function must not contain to run where nothing of its own module is."""

from __future__ import annotations

import ast
import builtins

import pytest

from pie_sync._functions import checks
from pie_sync._functions.checks import check_closure, check_definition
from pie_sync._functions.source import Definition


def definition(source: str) -> Definition:
    node = ast.parse(source).body[0]
    return Definition("\n".join(source.split("\n")[node.lineno - 1 :]), node)


def check(source: str) -> None:
    check_definition(definition(source), lambda decorator: ast.unparse(decorator) == "inferlet")


@pytest.mark.parametrize(
    "source",
    [
        "def f(a): return a + len('x')",
        "def f(n): return f(n - 1) if n else __name__",
        "def f():\n    import os.path as p\n    from inferlet import model\n    return p, model",
        "def f():\n    global x\n    x = 1\n    return x",
        "def f():\n    global json\n    import json\n    return json",
        "def f(a: np.ndarray, b: 'Foo' = None) -> Bar:\n    c: Baz = 1\n    d: Baz\n    return c",
        "def f():\n    def g(a: Foo) -> Bar: return h(a)\n    def h(a): return a\n    return g",
        "def f(a):\n    class C:\n        x = a\n        def m(self) -> Foo: return self.x\n    return C().m()",
        "def f(a): return [b for b in a if b] + list(map(lambda c: c, a))",
        "async def f(a):\n    async with a as b:\n        return [x async for x in b]",
        "def f(a):\n    def g():\n        yield 1\n    return list(g())",
        "def f(a):\n    try:\n        pass\n    except ExceptionGroup as error:\n        return error",
        "@inferlet\ndef f(a): return a",
    ],
)
def test_what_can_run(source):
    check(source)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f(): return np.zeros(1)", "np"),
        ("def f(a=DEFAULT): return a", "DEFAULT"),
        ("def f(*, a=os.sep): return a", "os"),
        ("def f(): return [LIMIT for x in y]", "LIMIT, y"),
        ("def f():\n    def g(): return helper()\n    return g", "helper"),
        ("def f():\n    class C(Base): pass", "Base"),
        ("def f():\n    @cache\n    def g(): pass", "cache"),
        ("def f(): return (lambda: secret)()", "secret"),
        ("def f():\n    import os\n    def g(a=sys.path): return os", "sys"),
        ("def f():\n    global count\n    count += 1\n    return count", "count"),
        ("def f():\n    display(1)", "display"),
    ],
)
def test_a_name_from_outside(source, names):
    with pytest.raises(ValueError, match=rf"f\(\) uses {names} from outside.*import or define it inside"):
        check(source)


def test_what_ipython_adds_to_the_builtins(monkeypatch):
    monkeypatch.setattr(builtins, "display", print, raising=False)
    with pytest.raises(ValueError, match=r"f\(\) uses display from outside"):
        check("def f(): display(1)")


def test_a_builtin_that_the_module_replaces():
    one = definition("def f(): return sorted([2, 1])")
    check_definition(one, lambda _: False)
    with pytest.raises(ValueError, match=r"f\(\) uses sorted from outside"):
        check_definition(one._replace(outside=frozenset({"sorted"})), lambda _: False)


def test_a_variable_of_the_module_that_is_set_here():
    one = definition("def f():\n    global x\n    x = x + 1\n    return x")
    with pytest.raises(ValueError, match=r"f\(\) uses x from outside"):
        check_definition(one._replace(outside=frozenset({"x", "f"})), lambda _: False)


@pytest.mark.parametrize("decorator", ["cache", "functools.lru_cache(None)", "app.route('/')"])
def test_another_decorator(decorator):
    for source in (f"@{decorator}\ndef f(): pass", f"@{decorator}\n@inferlet\ndef f(): pass"):
        with pytest.raises(ValueError, match=r"has the decorator @.*, which the server does not have: leave"):
            check(source)


@pytest.mark.parametrize("source", ["def f(): yield 1", "async def f(): yield 1", "def f(): yield from []"])
def test_a_generator(source):
    with pytest.raises(ValueError, match=r"f\(\) yields.*session.send"):
        check(source)


def test_syntax_that_the_server_does_not_know(monkeypatch):
    source = "def f(a):\n    b: int = a\n    return b"
    check(source)
    monkeypatch.setattr(checks, "SERVER_PYTHON", (3, 5))
    with pytest.raises(ValueError, match=r"f\(\) has syntax that the server's Python 3\.5 does not know"):
        check(source)


def test_a_closure():
    value, other = 5, 6

    def closes():
        return value + other

    with pytest.raises(ValueError, match=r"closes\(\) uses other, value of the function around.*as an argument"):
        check_closure(closes)
