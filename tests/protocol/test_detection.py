"""The first answer of a server that may speak either generation of the protocol."""

import msgpack

from pie_sync._protocol import InstanceProtocol, ProcessProtocol, ProtocolDetector
from pie_sync._protocol.messages import Abort, Answer, Refusal


def test_the_first_answer_tells_the_generation():
    detector = ProtocolDetector()
    for flag in ("ok", "successful"):
        message = {"type": "response", "corr_id": 7, flag: True, "result": "x"}
        assert detector.decode(msgpack.packb(message)) == Answer(7, "response", True, "x")
    assert detector.name is None
    assert (InstanceProtocol.name, ProcessProtocol.name) == ("instance", "process")


def test_text_frames_are_those_of_the_process_protocol():
    detector = ProtocolDetector()
    assert detector.decode_text('{"type":"turn_done"}') is None
    assert detector.decode_text('{"type":"error","message":"bad client frame: x"}') == Refusal(
        "bad client frame: x"
    )
    assert detector.decode_text('{"type":"error","message":"stream aborted"}') == Abort("stream aborted")
