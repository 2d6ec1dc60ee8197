"""Key files that several modules use, each made once."""

from __future__ import annotations

import pytest

from tests.keys.key_files import KeyMaker, run


@pytest.fixture(scope="session")
def make_key(tmp_path_factory: pytest.TempPathFactory) -> KeyMaker:
    return KeyMaker(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def primes(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, int]:
    """Known primes of 4096 bits each (RFC 3526, RFC 7919), because openssl takes long to find such primes."""

    def prime(group: str) -> int:
        path = tmp_path_factory.mktemp("primes") / group
        run(
            *("openssl", "genpkey", "-genparam", "-algorithm", "DH"),
            *("-pkeyopt", f"group:{group}", "-out", path),
        )
        _sequence, number, *_ = run("openssl", "asn1parse", "-in", path).splitlines()
        return int(number.rpartition(":")[2], 16)

    return prime("modp_4096"), prime("ffdhe4096")
