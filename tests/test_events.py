from pie_sync import Event


def test_values_are_those_of_the_protocol_and_the_client_api():
    names = "Message Completed Aborted Exception ServerError OutOfResources Blob Stdout Stderr"
    assert [(event.name, event.value) for event in Event] == list(zip(names.split(), range(9)))


def test_terminal():
    terminal = {Event.Completed, Event.Aborted, Event.Exception, Event.ServerError, Event.OutOfResources}
    assert {event for event in Event if event.terminal} == terminal
