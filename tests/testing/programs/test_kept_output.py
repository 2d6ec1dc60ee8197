"""What is kept of the output of a detached instance."""

from __future__ import annotations

from pie_sync import Event
from pie_sync.testing import LocalServer, ProgramContext
from pie_sync.testing._programs.kept_output import KeptOutput
from tests.testing.raw import COMPLETED, RawClient

MIB = 1024 * 1024


def test_one_event_for_each_stream_and_the_end() -> None:
    kept = KeptOutput()
    assert not kept
    kept.add(Event.Stderr, "err")
    for part in ("one ", "two "):
        kept.add(Event.Stdout, part)
    kept.add(Event.Message, "dropped")
    kept.add(Event.Blob, b"dropped")
    kept.add(Event.Completed, "done")
    assert kept
    assert kept.take() == [(Event.Stdout, "one two "), (Event.Stderr, "err"), (Event.Completed, "done")]
    assert not kept
    assert kept.take() == []


def test_messages_alone_leave_nothing() -> None:
    kept = KeptOutput()
    kept.add(Event.Message, "dropped")
    assert not kept


def test_the_last_mib_of_each_stream_is_kept() -> None:
    kept = KeptOutput()
    for number in range(300):
        kept.add(Event.Stdout, f"{number:03}" + "x" * 9997)
    kept.add(Event.Stderr, "y" * (MIB + 1))
    (_, stdout), (_, stderr) = kept.take()
    assert (len(stdout), stdout[-10_000:][:3]) == (MIB, "299")
    assert stderr == "y" * MIB


def test_a_character_that_is_cut_becomes_the_replacement_character() -> None:
    kept = KeptOutput()
    kept.add(Event.Stdout, "ü" * (MIB // 2) + "b")
    ((_, text),) = kept.take()
    assert text == "\ufffd" + "ü" * (MIB // 2 - 1) + "b"


def test_what_could_not_be_sent_comes_before_the_rest() -> None:
    kept = KeptOutput()
    kept.add(Event.Stdout, "b" * MIB)
    kept.add(Event.Stderr, "second")
    kept.prepend([(Event.Stdout, "a"), (Event.Message, "dropped"), (Event.Stderr, "first ")])
    assert kept.take() == [(Event.Stdout, "b" * MIB), (Event.Stderr, "first second")]
    kept.prepend([(Event.Stdout, "a"), (Event.Completed, "end")])
    assert kept.take() == [(Event.Stdout, "a"), (Event.Completed, "end")]


def test_half_of_a_surrogate_pair_is_replaced(server: LocalServer, client: RawClient) -> None:
    @server.program("odd")
    def odd(ctx: ProgramContext) -> None:
        ctx.stdout("a\ud800b")

    instance_id = client.launch("odd", detached=True)
    while client.statuses()[instance_id] != "Finished":
        pass
    assert client.attach(instance_id)[0]
    assert list(client.events(instance_id)) == [("Stdout", "a?b"), (COMPLETED, "")]
