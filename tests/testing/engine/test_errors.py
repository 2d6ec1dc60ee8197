from __future__ import annotations

import pickle

from pie_sync.testing import EngineError, EngineUnavailableError


def test_what_is_missing_and_what_to_do_about_it() -> None:
    error = EngineUnavailableError("no driver", "install it")
    assert isinstance(error, EngineError)
    assert (error.reason, error.hint, str(error)) == ("no driver", "install it", "no driver\nhint: install it")


def test_it_passes_between_processes() -> None:
    error = pickle.loads(pickle.dumps(EngineUnavailableError("no driver", "install it")))
    assert (error.reason, error.hint) == ("no driver", "install it")
