"""Launch a detached instance, disconnect, and collect its output later."""

from pie_sync import PieClient
from pie_sync.testing import LocalServer, ProgramContext


def ponder(context: ProgramContext) -> str:
    """Stand in for a program on a real server that takes its time."""
    context.stdout("thinking about it\n")
    return "42"


def main() -> None:
    with LocalServer() as server:
        server.program("ponder")(ponder)

        with PieClient(server.uri) as client:
            client.authenticate("alice")
            instance_id = client.launch("ponder", detached=True).id
            print("launched, and gone")

        # Perhaps the next day, perhaps on another machine: only the id is needed.
        with PieClient(server.uri) as client:
            client.authenticate("alice")
            for info in client.list_instances():
                whose = "mine" if info.id == instance_id else "another"
                print(f"{whose}, with arguments {list(info.arguments)}")
            result = client.attach_instance(instance_id).wait(timeout=10)
            print(f"{result.stdout}{result.event.name}: {result.message}")


if __name__ == "__main__":
    main()
