"""Tell the kinds of errors apart."""

from pie_sync import InstanceFailed, LaunchError, PieClient, PieError, PieTimeoutError
from pie_sync.testing import LocalServer, ProgramContext


def fail(context: ProgramContext) -> str:
    """Stand in for a program on a real server that fails."""
    raise RuntimeError("out of flour")


def dawdle(context: ProgramContext) -> str:
    """Stand in for a program that waits for a message which nobody sends."""
    return context.receive()


def main() -> None:
    with LocalServer() as server:
        server.program("fail")(fail)
        server.program("dawdle")(dawdle)

        # Two roots: PieError if the server refuses a request, ConnectionError if there
        # is no connection.
        try:
            with PieClient(server.uri) as client:
                client.authenticate("alice")
                client.launch("no-such-program")
        except PieError as error:
            print(f"the server says no: {error}")
        except ConnectionError as error:
            print(f"no server: {error}")

        with PieClient(server.uri) as client:
            client.authenticate("alice")

            # Each refusal has its own type, with the request and the server's reason.
            try:
                client.launch("no-such-program")
            except LaunchError as error:
                print(f"{error.request}: {error.reason}")

            # The failure of a program is an event, unless you ask for an exception.
            print(client.launch("fail").wait(timeout=10).event.name)
            try:
                client.launch("fail").wait(timeout=10, check=True)
            except InstanceFailed as error:
                print(error.completed.message.splitlines()[-1])

            # After a time limit, the connection and the instance can still be used.
            instance = client.launch("dawdle")
            try:
                instance.recv(timeout=0.1)
            except PieTimeoutError as error:
                print(f"nothing yet: {type(error).__name__}")
                instance.terminate()
                print(instance.wait(timeout=10).event.name)

        # If there is no server, the error is the built-in ConnectionError.
        try:
            with PieClient("ws://127.0.0.1:9", connect_timeout=5):
                pass
        except ConnectionError as error:
            print(f"no server: {type(error).__name__}")


if __name__ == "__main__":
    main()
